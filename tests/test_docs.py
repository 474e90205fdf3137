"""The documents say what is there: packages, files, links, settings of the environment, error codes, commands."""

import ast
import functools
import pathlib
import re

import pytest

from gateway.config import read_config
from sallyport.plan.codec import parse_plan
from sallyport.problem import Code
from sallyport.wire import websocket
from sallyport.wire.yamux import frames

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PARTS = ("sallyport", "gateway", "sandboxd", "worker", "control_client", "control_plane", "sallyport_cli")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A file of ours as prose writes it: `gateway/serve.py`, `tests/flow/`.
NAMED = re.compile(rf"`((?:{'|'.join(PARTS)}|tests|demo|benchmarks|docs|requirements)/[\w./-]*)`")


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as forges make them."""
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: pathlib.Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        path = (document.parent / name).resolve() if name else document
        if not path.exists() or (anchor and anchor not in anchors(path.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def packages() -> list[str]:
    """Return every package; of the providers, a folder each, the one they stand in."""
    found = (str(path.parent.relative_to(ROOT)) for part in PARTS for path in (ROOT / part).rglob("__init__.py"))
    return sorted(package for package in found if not package.startswith("control_plane/definitions/"))


def test_readme_fits_one_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


@pytest.mark.parametrize("package", packages())
def test_every_package_stands_in_the_architecture(package: str) -> None:
    assert f"`{package}/`" in (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: pathlib.Path) -> None:
    assert broken_links(document) == []


def test_a_dead_link_is_found(tmp_path: pathlib.Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# One two\n[a](#one-two) [b](#three) [c](b.md) [d](https://example.com/)\n", encoding="utf-8")
    assert broken_links(document) == ["#three", "b.md"]


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(document: pathlib.Path) -> None:
    # What is not built yet is written without backticks, so that a name in backticks can be opened.
    named = NAMED.findall(document.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_life_of_a_request_names_the_file_of_each_step() -> None:
    text = (ROOT / "docs/life-of-a-request.md").read_text(encoding="utf-8")
    assert "gateway/serve.py" in NAMED.findall(text)


def test_no_document_has_the_marks_of_a_merge() -> None:
    marks = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
    assert [path.name for path in DOCS if marks.search(path.read_text(encoding="utf-8"))] == []


def test_documents_name_no_path_of_a_machine() -> None:
    machine = re.compile(r"(?<![\w.-])/(?:root|work|opt|home/\w+)/")
    assert [str(path) for path in DOCS if machine.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_a_lock_holds_names_versions_and_hashes_only(lock: pathlib.Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|^\s*-(?!-hash)|(?<=\s)/", text, re.MULTILINE)
    requirements = re.findall(r"^\w[^\\\n]*(?:\\\n +--hash=sha256:[0-9a-f]{64} ?)+$", text, re.MULTILINE)
    assert len(requirements) == len(re.findall(r"^\w", text, re.MULTILINE)) > 0


@pytest.mark.parametrize("code", sorted({code.wire for code in Code}))
def test_every_error_code_is_documented(code: str) -> None:
    assert f"`{code}`" in (ROOT / "docs/errors.md").read_text(encoding="utf-8")


def test_the_tunnel_protocol_names_every_close_code_type_and_flag() -> None:
    text = (ROOT / "docs/tunnel-protocol.md").read_text(encoding="utf-8")
    for code in ("PROTOCOL", "INTERNAL", "DRAINING", "REPLACED", "REVOKED", "EXPIRED"):
        assert f"\n| {getattr(websocket, code)} | " in text
    for name, word in (("DATA", "data"), ("WINDOW_UPDATE", "window update"), ("PING", "ping"), ("GO_AWAY", "go-away")):
        assert f"\n| 0 | {getattr(frames, name)} {word} |" in text
    for name in ("SYN", "ACK", "FIN", "RST"):
        assert f"{name} {getattr(frames, name)}" in text


@pytest.mark.parametrize("part", ["gateway", "sandboxd"])
def test_the_tunnel_protocol_names_every_control_message(part: str) -> None:
    text = (ROOT / "docs/tunnel-protocol.md").read_text(encoding="utf-8")
    sent = {
        kind
        for path in (ROOT / part).rglob("*.py")
        for kind in re.findall(r'"type": "([a-z.]+)"', path.read_text(encoding="utf-8"))
    }
    assert sent
    assert [kind for kind in sorted(sent) if f"\n| {part} | `{kind}` |" not in text] == []


def test_the_examples_are_good() -> None:
    examples = ROOT / "docs/examples"
    for plan in sorted(examples.glob("*-plan.json")):
        parse_plan(plan.read_bytes())
    for settings in sorted(examples.glob("*.yaml")):
        # `sallyport run` makes the keys that an example leaves out.
        read_config(settings, {"SALLYPORT_TOKENS_PUBLIC_KEY": "made by run"})
    assert len(list(examples.iterdir())) >= 2


CASES = [
    *(
        f"{letter}{number}"
        for letter, most in (("P", 10), ("H", 10), ("A", 7), ("S", 11))
        for number in range(1, most + 1)
    ),
    *(f"C{number}" for number in range(1, 15)),
    *(f"T{number}" for number in range(1, 7)),
]


def cases_of_the_threat_model() -> dict[str, list[str]]:
    """Return the test files by case, as the table of docs/threat-model.md has them."""
    text = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if re.match(r"\| [A-Z]\d", line)]
    return {code: NAMED.findall(tests) for codes, _, _, tests in rows for code in codes.strip().split(", ")}


@functools.cache
def cases_of(file: pathlib.Path) -> set[str]:
    """Return the cases that the names of a file's tests begin with, or have among them: `test_c2_c3_nothing_is_...`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    words = (word for node in functions if node.name.startswith("test_") for word in node.name.split("_"))
    return {word.upper() for word in words} & set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_a_test_against_a_running_gateway(case: str) -> None:
    assert any(case in cases_of(file) for file in (ROOT / "tests/flow").glob("test_*.py"))


@pytest.mark.parametrize("case", CASES)
def test_the_threat_model_names_tests_of_every_case(case: str) -> None:
    files = cases_of_the_threat_model()[case]
    named = [name for name in files if case in cases_of(ROOT / name)]
    assert [name for name in named if name.startswith("tests/flow/")], files


def test_a_case_is_read_off_the_names_of_tests_alone(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "test_a.py"
    file.write_text(
        "# C4\ndef c5(): ...\ndef test_a1_x(): 'C6'\nasync def test_c2_c13(): ...\ndef test_c99_p11x(): ...\n"
    )
    assert cases_of(file) == {"A1", "C2", "C13"}


def test_the_threat_model_has_no_other_cases() -> None:
    assert sorted(cases_of_the_threat_model()) == sorted(CASES)
