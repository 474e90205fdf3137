"""`sallyport plan`: look at compiled plans without a gateway, by the same code that the gateway decides with.

Of plans in files, or, with --profile and --version, of what a control plane compiles. `apply` has a worker apply one.
"""

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from sallyport_cli.control_session import Control, TokenFile, UpDataDir, open_session
from sallyport_cli.failure import ExitStatus, bad_input
from sallyport_cli.files import read_file, replace_file
from sallyport_cli.output import JsonFlag, counted, show_json, show_lines
from sallyport_cli.versions import VersionSession, diff_lines, read_bindings, read_recording, simulation_lines
from sallyport_cli.worker_session import WorkerUrl, open_worker

if TYPE_CHECKING:
    from sallyport.plan.codec import PlanError
    from sallyport.plan.model import CompiledRuntimePlan

# A worker answers at once; what takes long it tells step by step.
PATIENCE_SECONDS = 10.0

app = typer.Typer(help="Compile, check, seal, apply, explain and compare plans.", no_args_is_help=True)

Profile = Annotated[str | None, typer.Option(help="A sandbox profile of a control plane, in the place of files.")]
Version = Annotated[int | None, typer.Option(min=1, help="A version of it.")]
Bindings = Annotated[Path | None, typer.Option(help="Bindings to try in the place of the version's own: JSON.")]


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="Plans.")], json: JsonFlag = False) -> None:
    """Say of each plan whether a gateway would take it, and everything that is wrong with it."""
    from sallyport.plan.codec import PlanError, parse_plan

    documents: list[dict[str, object]] = []
    lines: list[str] = []
    for path in files:
        content = read_file(path)
        try:
            plan = parse_plan(content)
        except PlanError as error:
            issues = [issue.to_document() for issue in error.issues]
            documents.append({"file": str(path), "valid": False, "issues": issues})
            lines += [f"{path}: {issue}" for issue in error.issues]
            continue
        about = {"sandboxId": plan.sandbox_id, "revision": plan.revision, "digest": plan.digest}
        documents.append({"file": str(path), "valid": True, "issues": [], **about})
        routes = len(plan.egress_routes)
        lines.append(f"{path}: valid; sandbox {plan.sandbox_id}, revision {plan.revision}, {counted(routes, 'route')}")
    if json:
        show_json({"plans": documents})
    else:
        show_lines(lines)
    if not all(document["valid"] for document in documents):
        raise typer.Exit(ExitStatus.FAILED_CHECK)


@app.command()
def seal(
    file: Annotated[Path, typer.Argument(help="A plan; its digest is written into it.")], json: JsonFlag = False
) -> None:
    """Fill in the digest of a plan that was written or changed by hand. A plan with other faults is left alone."""
    from sallyport.plan.codec import PlanError, parse_plan, plan_digest
    from sallyport.plan.strict_json import StrictJsonError, read_strictly

    try:
        document, _ = read_strictly(read_file(file), most_faults=1)
        if not isinstance(document, dict):
            raise bad_input(f"{file} does not hold a JSON object")
        sealed = {**document, "digest": plan_digest(document)}
    except (StrictJsonError, ValueError) as error:
        raise bad_input(f"{file} is not a plan in JSON: {error}", "`sallyport plan check` shows all faults") from None
    content = json_text.dumps(sealed, indent=2, ensure_ascii=False).encode() + b"\n"
    try:
        plan = parse_plan(content)
    except PlanError as error:
        raise _invalid(file, error) from None
    replace_file(file, content)
    if json:
        show_json({"file": str(file), "digest": plan.digest})
    else:
        show_lines([str(plan.digest)])


@app.command(name="compile")
def compile_version(
    profile: Annotated[str, typer.Option(help="A sandbox profile.")],
    version: Annotated[int, typer.Option(min=1, help="A version of it.")],
    sandbox: Annotated[str | None, typer.Option(help="Put the plan in force for this sandbox of the version.")] = None,
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """Compile the bindings of a version; print the plan, or everything that is wrong with them."""
    asked = VersionSession(open_session(data_dir, control, token_file), profile, version)
    document = asked.ask("POST", "compile", {} if sandbox is None else {"sandboxId": sandbox})
    if sandbox is None or json:
        show_json(document if json else document["plan"])
        return
    words = "put in force" if document["changed"] else "in force already"
    show_lines([f"{sandbox}: revision {document['revision']} {words}, {document['digest']}"])


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="A plan. It gets the next revision where its own is taken or older.")],
    watch: Annotated[bool, typer.Option("--watch", help="Show the steps as they go, and how it ends.")] = False,
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    worker: WorkerUrl = None,
    worker_token_file: Annotated[Path | None, typer.Option(help="A service token for the worker.")] = None,
    worker_ca_file: Annotated[Path | None, typer.Option(help="Roots (PEM) to trust for the worker.")] = None,
    json: JsonFlag = False,
) -> None:
    """Store a plan and have a worker apply it. With --watch the exit status is 1 where it is not applied at the end."""
    from sallyport_cli import bring_about

    plan = read_plan(file)
    at_control = open_session(data_dir, control, token_file)
    at_worker = open_worker(data_dir, worker, worker_token_file, worker_ca_file, timeout_seconds=PATIENCE_SECONDS)
    revision = bring_about.store_plan(at_control, json_text.loads(read_file(file)))
    application_id = bring_about.begin_application(at_worker, plan.sandbox_id, revision)
    about = {"applicationId": application_id, "sandboxId": plan.sandbox_id, "revision": revision}
    if not json:
        _show_now(f"{application_id}: revision {revision} of {plan.sandbox_id} is being applied")
    if not watch:
        if json:
            show_json(about)
        return
    before: dict[str, object] | None = None
    for now in bring_about.follow_application(at_worker, application_id):
        if not json:
            _show_now(*bring_about.told_steps(before, now))
        before = now
    assert before is not None, "it is told once at least"
    if json:
        show_json(before)
    else:
        _show_now(f"revision {revision} of {plan.sandbox_id} is {before['state']}")
    if before["state"] != "applied":
        raise typer.Exit(ExitStatus.FAILED_CHECK)


def _show_now(*lines: str) -> None:
    """Print lines for whoever watches: also through a pipe."""
    show_lines(lines)
    sys.stdout.flush()


@app.command()
def explain(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[FILE] METHOD URL", help="A plan unless --profile is given; method and URL as asked."),
    ],
    profile: Profile = None,
    version: Version = None,
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """Say what a gateway with this plan would do with a request, and why."""
    asked = _version_session(profile, version, data_dir, control, token_file)
    if len(arguments) != (3 if asked is None else 2):
        raise bad_input("a plan's file, a method and a URL are needed; with --profile the method and the URL alone")
    *files, method, url = arguments
    if asked is not None:
        document = asked.ask("GET", f"explain?{urlencode({'method': method, 'url': url})}")
    else:
        from sallyport.plan.explain import explain as explain_request

        document = explain_request(read_plan(Path(files[0])), method, url).to_document()
    if json:
        show_json(document)
    else:
        show_lines(f"{name:14} {_text(value)}" for name, value in document.items())


@app.command()
def diff(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[BEFORE AFTER]", help="Two plans.")] = None,
    profile: Profile = None,
    version: Version = None,
    against: Annotated[int | None, typer.Option(min=1, help="Another version of the profile.")] = None,
    bindings: Bindings = None,
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """Say which requests a second plan would answer differently. The exit status is 1 where there are some."""
    asked = _version_session(profile, version, data_dir, control, token_file)
    if asked is not None:
        if files or (against is None) == (bindings is None):
            raise bad_input("with --profile name what to compare with: --against VERSION or --bindings FILE")
        body = {"version": against} if bindings is None else {"bindings": read_bindings(bindings)}
        document = asked.ask("POST", "diff", body)
    else:
        from sallyport.plan.diff import diff_plans

        if files is None or len(files) != 2:
            raise bad_input("two plans are compared; or name --profile and --version")
        document = diff_plans(*map(read_plan, files)).to_document()
    if json:
        show_json(document)
    else:
        show_lines(diff_lines(document))
    if document["changes"] or document["parts"]:
        raise typer.Exit(ExitStatus.FAILED_CHECK)


@app.command()
def simulate(
    recording: Annotated[Path, typer.Argument(help="A HAR, or a JSON list of {method, url}.")],
    plan: Annotated[Path | None, typer.Option(help="The plan that is tried.")] = None,
    before: Annotated[Path | None, typer.Option(help="The plan it is compared with.")] = None,
    profile: Profile = None,
    version: Version = None,
    bindings: Bindings = None,
    sandbox: Annotated[str | None, typer.Option(help="Compare with the plan in force of this sandbox.")] = None,
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """Say what would become of recorded requests, those that change first. The exit status is 1 where some do."""
    requests = read_recording(recording)
    asked = _version_session(profile, version, data_dir, control, token_file)
    if asked is not None:
        body: dict[str, object] = {"requests": [each._asdict() for each in requests]}
        body |= {} if bindings is None else {"bindings": read_bindings(bindings)}
        document = asked.ask("POST", "simulate", body | ({} if sandbox is None else {"sandboxId": sandbox}))
    else:
        from sallyport.plan.simulate import simulate as simulate_requests

        if plan is None:
            raise bad_input("name the plan to try: --plan FILE, or --profile and --version")
        found = simulate_requests(requests, read_plan(plan), None if before is None else read_plan(before))
        items = [each.to_document() for each in found]
        document = {"items": items, "changed": sum(each.is_changed for each in found)}
    if json:
        show_json(document)
    else:
        show_lines(simulation_lines(document))
    if document["changed"]:
        raise typer.Exit(ExitStatus.FAILED_CHECK)


def _version_session(
    profile: str | None, version: int | None, data_dir: Path, control: str | None, token_file: Path | None
) -> VersionSession | None:
    """Return the version that is meant, None where files are; raises Failure."""
    if (profile is None) != (version is None):
        raise bad_input("--profile and --version belong together")
    if profile is None or version is None:
        return None
    return VersionSession(open_session(data_dir, control, token_file), profile, version)


def read_plan(path: Path) -> "CompiledRuntimePlan":
    """Return the plan a file holds; a Failure lists every issue."""
    from sallyport.plan.codec import PlanError, parse_plan

    try:
        return parse_plan(read_file(path))
    except PlanError as error:
        raise _invalid(path, error) from None


def _invalid(path: Path, error: "PlanError") -> Exception:
    return bad_input(f"{path} is not a valid plan", "\n".join(map(str, error.issues)))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_text.dumps(value, ensure_ascii=False, default=list)
