"""`sallyport doctor`: is everything in place, and does a credential really arrive?"""

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sallyport_cli import config as surroundings
from sallyport_cli.failure import ExitStatus, Failure, bad_input
from sallyport_cli.finding import Finding, State, failed, ok
from sallyport_cli.output import JsonFlag, show_json, show_table

if TYPE_CHECKING:
    from gateway.config import GatewayConfig

SETTINGS = "settings"


def doctor(
    config: Annotated[Path, typer.Option(help="The gateway's settings.")],
    plan: Annotated[Path | None, typer.Option(help="A plan instead of those of the settings.")] = None,
    proxy: Annotated[str | None, typer.Option(help="Look at this running gateway too: http://host:port.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A proxy token for it (`token mint`).")] = None,
    json: JsonFlag = False,
) -> None:
    """Check settings, plans, credentials, clock, variables, direct ways out, and send a canary request.

    The canary goes through a gateway with these settings to an origin on loopback that says which credential
    arrived: no other answer than the real one, and no placeholder, is taken for success. Nothing real is sent.
    """
    if (proxy is None) != (token_file is None):
        raise bad_input("--proxy and --token-file belong together")
    findings = examine(config, plan, proxy, token_file)
    if json:
        show_json({"healthy": is_healthy(findings), "findings": [finding.to_document() for finding in findings]})
    else:
        show_table(
            ["check", "", "seen", "what to do"],
            [[finding.check, finding.state.value, finding.seen, finding.remedy] for finding in findings],
        )
    if not is_healthy(findings):
        raise typer.Exit(ExitStatus.FAILED_CHECK)


def is_healthy(findings: list[Finding]) -> bool:
    """Say whether nothing failed and the canary arrived: a canary that could not be sent proves nothing."""
    from sallyport_cli.canary import CANARY

    arrived = any(finding.check == CANARY and finding.state is State.OK for finding in findings)
    return arrived and not any(finding.state is State.FAILED for finding in findings)


def examine(config: Path, plan: Path | None, proxy: str | None, token_file: Path | None) -> list[Finding]:
    """Make every check that the ones before it allow."""
    from sallyport_cli import checks
    from sallyport_cli.canary import send_canary
    from sallyport_cli.env import read_token
    from sallyport_cli.plan import read_plan
    from sallyport_cli.times import now

    inherited = surroundings.inherited()
    settings, findings = _settings(config, inherited)
    if settings is None:
        return findings
    paths = (plan,) if plan is not None else settings.plans
    plans = []
    for path in paths:
        try:
            plans.append(read_plan(path))
        except Failure as failure:
            findings.append(failed(checks.PLAN, failure.message, failure.hint))
    if len(plans) == len(paths):
        findings += checks.check_plans(paths, plans)
    findings += checks.check_credentials(settings, plans, inherited)
    findings.append(checks.check_clock(now(), checks.stored_authorities(settings.interception.ca_dir)))
    findings.append(checks.check_sqlite())
    findings += checks.check_variables(inherited, proxy)
    findings.append(asyncio.run(checks.check_direct(plans)))
    if proxy is not None and token_file is not None:
        findings.append(checks.check_gateway(proxy, read_token(token_file), now()))
    with tempfile.TemporaryDirectory(prefix="sallyport-") as name:
        findings += asyncio.run(send_canary(config, inherited, Path(name)))
    return findings


def _settings(config: Path, inherited: dict[str, str]) -> "tuple[GatewayConfig | None, list[Finding]]":
    """Read the settings. Without a key for tokens they are still good for `sallyport run`, which makes one."""
    from sallyport_cli.settings import is_given, read_document, read_settings

    document = read_document(config)
    keys = [name for name in ("public_key", "jwks") if is_given(document, inherited, "tokens", name)]
    stand_in = {} if keys else {"SALLYPORT_TOKENS_PUBLIC_KEY": "/dev/null"}
    try:
        settings = read_settings(config, inherited | stand_in)
    except Failure as failure:
        return None, [failed(SETTINGS, failure.message, failure.hint)]
    seen = f"{config}: every setting is good" + ("" if keys else "; no tokens, so for `sallyport run` only")
    return settings, [ok(SETTINGS, seen)]
