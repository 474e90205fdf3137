import json
import shutil
import subprocess

import pytest

from sallyport_cli.shells import Format, render

AWKWARD = {
    "PLAIN": "http://x:a.b-c@127.0.0.1:3128",
    "SPACES": "-Da=b c -De=f",
    "SINGLE": "it's",
    "DOUBLE": 'say "hi"',
    "EXPANDS": "$HOME `id` $(id) \\n \\\\ %PATH% !x",
    "STARS": "* ? [a-z] {a,b} ~ #x ; | & < >",
    "TYPOGRAPHIC": "\u2018quoted\u2019",
    "EMPTY": "",
    "UNICODE": "päth/ü",
}
ECHO = "import json,os,sys; json.dump(dict(os.environ), sys.stdout)"
# Every shell reads the lines, then starts a program that says which environment it got.
SHELLS = {
    "sh": (Format.SH, ["sh"], "python3 -c '{echo}'"),
    "bash": (Format.SH, ["bash", "--norc"], "python3 -c '{echo}'"),
    "dash": (Format.SH, ["dash"], "python3 -c '{echo}'"),
    "zsh": (Format.SH, ["zsh", "-f"], "python3 -c '{echo}'"),
    "fish": (Format.FISH, ["fish", "--no-config"], "python3 -c '{echo}'"),
    "pwsh": (Format.POWERSHELL, ["pwsh", "-NoProfile", "-NonInteractive", "-Command", "-"], "python3 -c '{echo}'"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_passes_on_exactly_what_was_meant(shell: str) -> None:
    form, start, then = SHELLS[shell]
    if shutil.which(start[0]) is None:
        pytest.skip(f"not here: {start[0]}")
    script = "\n".join([*render(form, AWKWARD, ["SSL_CERT_DIR"]), then.format(echo=ECHO)]) + "\n"
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "SSL_CERT_DIR": "/certs", "LC_ALL": "C.UTF-8", "HOME": "/"}
    answer = subprocess.run(start, input=script, env=environment, capture_output=True, text=True, check=True)
    got = json.loads(answer.stdout)
    assert {name: got.get(name) for name in AWKWARD} == AWKWARD
    assert "SSL_CERT_DIR" not in got


def test_powershell_doubles_every_kind_of_single_quote() -> None:
    lines = list(render(Format.POWERSHELL, {"A": "it's \u2019 $x"}, ["B"]))
    assert lines == ["$env:A = 'it''s \u2019\u2019 $x'", "Remove-Item Env:B -ErrorAction SilentlyContinue"]


def test_fish_escapes_backslash_and_quote() -> None:
    assert list(render(Format.FISH, {"A": r"a\'b"}, ["B"])) == [r"set -gx A 'a\\\'b'", "set -e B"]


def test_docker_takes_the_rest_of_the_line() -> None:
    assert list(render(Format.DOCKER, {"A": "b 'c' \"d\" $e"}, ["B"])) == ["A=b 'c' \"d\" $e"]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("http://x:t@h:1", "A=http://x:t@h:1"),
        ("a b", "A='a b'"),
        ("$a", "A='$a'"),
        ("it's $a", r'''A="it's \$a"'''),
        ("a\\b", r'A="a\\b"'),
        ("", "A="),
    ],
)
def test_dotenv_quotes_only_what_needs_it(value: str, line: str) -> None:
    assert list(render(Format.DOTENV, {"A": value}, ["B"])) == [line]


def test_json_is_one_document() -> None:
    assert json.loads("\n".join(render(Format.JSON, {"A": "b"}, ["C"]))) == {"set": {"A": "b"}, "unset": ["C"]}


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_line_break_is_refused(form: Format, value: str) -> None:
    with pytest.raises(ValueError, match="A would hold a line break"):
        list(render(form, {"A": value}, []))
