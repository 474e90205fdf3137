"""Search bytes for a secret in the spellings it might have been carried in."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote


def spellings(secret: str) -> dict[str, bytes]:
    """Return the secret as it is, in base64 and base64url (whatever stands before it), hex, percent and JSON."""
    raw = secret.encode()
    found = {"raw": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode()}
    for offset in range(3):
        # The first and last characters of base64 also depend on the neighbours of the secret; the middle does not.
        whole = base64.b64encode(b"\x00" * offset + raw)
        middle = whole[4 if offset else 0 : len(whole) // 4 * 4 - 4]
        found[f"base64 at {offset}"] = middle
        found[f"base64url at {offset}"] = middle.replace(b"+", b"-").replace(b"/", b"_")
    found["percent"] = quote(secret, safe="").encode()
    found["JSON"] = raw.replace(b"/", b"\\/")
    return found


def leaks(content: bytes, secrets: Iterable[str]) -> list[str]:
    """Return the spellings under which any of the secrets stands in the content; never the secret."""
    return [spelling for secret in secrets for spelling, needle in spellings(secret).items() if needle in content]


def leaks_of_a_process(
    environment: Mapping[str, str], outputs: Iterable[bytes], folders: Iterable[Path], secrets: tuple[str, ...]
) -> list[str]:
    """Say where what a process was given, said and wrote holds a secret: one line per place."""
    places = {"environment": "\n".join(f"{name}={value}" for name, value in environment.items()).encode()}
    places |= {f"output {number}": output for number, output in enumerate(outputs)}
    found = [f"{place}: {spelling}" for place, content in places.items() for spelling in leaks(content, secrets)]
    for path in _files(folders):
        found += [f"{path.name}: {spelling}" for spelling in leaks(path.read_bytes(), secrets)]
    return found


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
