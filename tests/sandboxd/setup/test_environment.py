"""Variables in layers, and what a real shell makes of the file."""

import subprocess
from pathlib import Path

from sallyport.trust_env import variables
from sandboxd.setup.environment import environment_of, shell_file


def test_later_layers_win_and_nothing_is_expanded() -> None:
    base = {"PATH": "/bin", "SSL_CERT_DIR": "/etc/ssl", "A": "base"}
    assert environment_of(base, {"A": "one", "B": "$PATH:x"}, None, {"A": "two"}) == {
        "PATH": "/bin",
        "A": "two",
        "B": "$PATH:x",
    }
    assert base["A"] == "base"


def test_a_shell_reads_exactly_what_was_meant(tmp_path: Path) -> None:
    trust = variables(proxy_url="http://127.0.0.1:3129", ca_file="/ca.pem", bundle_file="/bundle.pem")
    strange = 'a\'b "c" $HOME `id` \\ \n ü'
    file = tmp_path / "environment.sh"
    file.write_bytes(shell_file({"HOME": "/root", "SECRET_OF_THE_DAEMON": "x", **trust}, {"STRANGE": strange}))
    script = f'. {file}; printf "%s|%s|%s|%s" "$STRANGE" "$HTTPS_PROXY" "${{SSL_CERT_DIR-unset}}" "$HOME"'
    ran = subprocess.run(
        ["sh", "-c", script], env={"HOME": "/home/me", "SSL_CERT_DIR": "/x"}, capture_output=True, check=True
    )
    assert ran.stdout.decode() == f"{strange}|http://127.0.0.1:3129|unset|/home/me"
    assert b"SECRET_OF_THE_DAEMON" not in file.read_bytes()
