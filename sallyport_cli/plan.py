"""`sallyport plan`: look at compiled plans without a gateway, by the same code that the gateway decides with."""

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sallyport_cli.failure import ExitStatus, bad_input
from sallyport_cli.files import read_file, replace_file
from sallyport_cli.output import JsonFlag, counted, show_json, show_lines

if TYPE_CHECKING:
    from sallyport.plan.codec import PlanError
    from sallyport.plan.model import CompiledRuntimePlan

app = typer.Typer(help="Check, seal and explain compiled plans.", no_args_is_help=True)


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


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="A plan.")],
    method: Annotated[str, typer.Argument(help="As on the wire: GET, POST.")],
    url: Annotated[str, typer.Argument(help="The whole URL that the sandbox asks for.")],
    json: JsonFlag = False,
) -> None:
    """Say what a gateway with this plan would do with a request, and why."""
    from sallyport.plan.explain import explain as explain_request

    document = explain_request(read_plan(file), method, url).to_document()
    if json:
        show_json(document)
    else:
        show_lines(f"{name:14} {_text(value)}" for name, value in document.items())


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
