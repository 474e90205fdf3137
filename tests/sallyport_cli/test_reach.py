from pathlib import Path

import pytest

from sallyport_cli.failure import Failure
from sallyport_cli.keys import generate_key_files
from sallyport_cli.reach import Reach, by_sandboxd, credential_variables, running, started
from sallyport_cli.settings import read_settings
from tests.support.command import write_plan

INHERITED = {"PATH": "/usr/bin:/bin"}


def settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(tmp_path: Path, **options: object) -> Failure:
    given: dict[str, object] = {"config": None, "plan": None, "sandbox": None, "key": None}
    reach = started(tmp_path / "state", INHERITED, **(given | options))  # type: ignore[arg-type]  # a table of options
    with pytest.raises(Failure) as caught, reach:
        pytest.fail("it started")
    return caught.value


def test_nothing_given(tmp_path: Path) -> None:
    assert "--plan" in refused(tmp_path).hint


def test_settings_with_keys_need_the_private_half(tmp_path: Path) -> None:
    config = settings(tmp_path, "tokens: {public_key: public.pem}")
    assert "--key" in refused(tmp_path, config=config, plan=write_plan(tmp_path / "p.json")).hint


def test_settings_without_a_plan(tmp_path: Path) -> None:
    assert "there is no such plan" in refused(tmp_path, config=settings(tmp_path, "")).message


@pytest.mark.parametrize(("sandbox", "told"), [(None, "several plans"), ("sbx_three", "no such plan")])
def test_settings_with_several_plans(tmp_path: Path, sandbox: str | None, told: str) -> None:
    write_plan(tmp_path / "one.json")
    write_plan(tmp_path / "two.json", sandboxId="sbx_two")
    failure = refused(tmp_path, config=settings(tmp_path, "plans: [one.json, two.json]"), sandbox=sandbox)
    assert told in failure.message
    assert "sbx_one, sbx_two" in failure.hint


def test_a_foreign_key_is_told_apart(tmp_path: Path) -> None:
    ours = generate_key_files(tmp_path / "ours")
    foreign = generate_key_files(tmp_path / "foreign")
    config = settings(tmp_path, f"tokens: {{jwks: '{ours.jwks}'}}")
    failure = refused(tmp_path, config=config, plan=write_plan(tmp_path / "p.json"), key=foreign.private)
    assert "refuses the token" in failure.message
    assert "--key" in failure.hint


def test_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c", encoding="utf-8")
    # Port 1 of loopback: nobody listens there, and nobody but root could.
    reach = running(INHERITED, proxy="http://127.0.0.1:1", token_file=tmp_path / "token", config=None)
    with pytest.raises(Failure, match="Connection refused"), reach:
        pytest.fail("it answered")


def test_credentials_in_variables_are_withheld(tmp_path: Path) -> None:
    text = "tokens: {public_key: p}\ncredentials: {con_a: {env: A_KEY}, con_b: {file: b}, con_c/x: {env: C_KEY}}"
    assert credential_variables(read_settings(settings(tmp_path, text), {})) == {"A_KEY", "C_KEY"}


def test_the_token_is_in_the_url_and_not_in_the_repr() -> None:
    reach = Reach(proxy_address="127.0.0.1:3128", token="to.k.en", ca_pem=b"", withheld=frozenset())
    assert reach.proxy_url == "http://x:to.k.en@127.0.0.1:3128"
    assert repr(reach) == "<Reach 127.0.0.1:3128>"


@pytest.mark.parametrize("address", ["", "3129", "127.0.0.1", "http://[::1]:1", "u@127.0.0.1:3129", "a:b", "a:1/x"])
def test_what_is_no_address_of_a_sandboxd(address: str) -> None:
    with pytest.raises(Failure, match="not the address"), by_sandboxd(address):
        pass


def test_a_sandboxd_that_is_not_there() -> None:
    with pytest.raises(Failure, match="CA cannot be had") as failure, by_sandboxd("127.0.0.1:1"):
        pass
    assert "sandboxd" in failure.value.hint


def test_by_a_sandboxd_there_is_no_token_in_the_url() -> None:
    reach = Reach(proxy_address="127.0.0.1:3129", token="", ca_pem=b"", withheld=frozenset())
    assert reach.proxy_url == "http://127.0.0.1:3129"
