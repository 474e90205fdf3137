"""Bytes to a plan, or to every issue they have; canonical JSON and the digest over it (contracts section 1).

Pure: the same bytes give the same plan or the same issues, in the same order, everywhere. Messages and pointers name
fields and rules, never a value of the document.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from pydantic import ValidationError

from sallyport.plan.issue_codes import IssueCode
from sallyport.plan.model import CompiledRuntimePlan, EgressRoute
from sallyport.plan.precedence import count_claims
from sallyport.plan.schema_faults import schema_faults
from sallyport.plan.strict_json import Fault, Path, StrictJsonError, faults_of, read_strictly
from sallyport.plan.ties import find_ties

MAX_PLAN_BYTES: Final = 2 * 1024 * 1024  # contracts section 1
MAX_ROUTES: Final = 1_000  # contracts section 1
MAX_CLAIMS: Final = 100_000  # hosts x ports x prefixes x methods over all routes and rules: what a matcher indexes
MAX_ISSUES: Final = 1_000  # an answer stays readable, whatever the document
MAX_POINTER_TOKEN: Final = 128  # characters of one member name in a pointer, for the same reason

_encoder = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)

_ENOUGH = MAX_ISSUES + 1  # faults, to know that there are more than are listed
_TOO_LARGE = (IssueCode.PLAN_TOO_LARGE, IssueCode.TOO_MANY_ROUTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One thing wrong with a plan document. `pointer` is an RFC 6901 pointer; "" is the whole document."""

    code: IssueCode
    pointer: str
    message: str

    def to_document(self) -> dict[str, str]:
        """The issue as an API answer carries it."""
        return {"code": self.code.value, "pointer": self.pointer, "message": self.message}

    def __str__(self) -> str:
        return f"{self.pointer or '(document)'}: {self.message} [{self.code.value}]"


class PlanError(Exception):
    """A document that is no plan, with every issue it has (at least one)."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__("; ".join(str(issue) for issue in issues[:3]) + ("; ..." if len(issues) > 3 else ""))
        self.issues = tuple(issues)

    @property
    def is_too_large(self) -> bool:
        """Whether the document was refused for its size (413) rather than its content (422)."""
        return any(issue.code in _TOO_LARGE for issue in self.issues)


def parse_plan(data: bytes) -> CompiledRuntimePlan:
    """Read a plan; raise PlanError, and nothing else, for anything that is not one."""
    if len(data) > MAX_PLAN_BYTES:
        _refuse([Fault(IssueCode.PLAN_TOO_LARGE, (), f"a plan has at most {MAX_PLAN_BYTES} bytes")])
    try:
        document, faults = read_strictly(data, most_faults=_ENOUGH)
    except StrictJsonError as error:
        _refuse([error.fault])
    routes = _items(document, "egressRoutes")
    if len(routes) > MAX_ROUTES:
        message = f"a plan has at most {MAX_ROUTES} routes"
        _refuse([Fault(IssueCode.TOO_MANY_ROUTES, ("egressRoutes",), message)])
    plan: CompiledRuntimePlan | None = None
    wrong_fields: list[Fault] = []
    try:
        plan = CompiledRuntimePlan.model_validate(document)
    except ValidationError as error:
        wrong_fields = schema_faults(error, document, already={fault.path for fault in faults}, most=_ENOUGH)
    readable = dict(enumerate(plan.egress_routes)) if plan is not None else _readable_routes(routes)
    found = chain(
        faults,
        wrong_fields,
        _duplicate_ids(document),
        _artifacts_out_of_order(document),
        _conflicts(readable, plan),
        () if faults else _digest_faults(document),
    )
    _refuse(list(islice(found, _ENOUGH)))
    assert plan is not None, "a document without issues validated"
    return plan


def canonical_json(value: object) -> bytes:
    """Write a value in its one byte form; raise ValueError for what canonical JSON cannot hold.

    UTF-8, members by code point (as Python orders strings, on any machine), no white space, the shortest escapes.
    """
    for fault in faults_of(value, null_allowed=True):
        raise ValueError(fault.message)
    return _encode(value)


def plan_digest(document: Mapping[str, object]) -> str:
    """The digest of a plan document: over its canonical JSON without `digest`, whether or not it has one."""
    return _sha256(canonical_json(_unsigned(document)))


def seal(document: Mapping[str, object]) -> bytes:
    """Write a plan document as canonical JSON with its digest filled in. Checks nothing else; parse_plan does."""
    return canonical_json({**document, "digest": plan_digest(document)})


def _encode(value: object) -> bytes:
    return _encoder.encode(value).encode("utf-8")


def _unsigned(document: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in document.items() if name != "digest"}


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# --- what no single model can check -----------------------------------------------------------------------------------
# Each of these reads whatever part of the document it can, so that one fault does not hide another.


def _items(document: object, *names: str) -> list[object]:
    """The array behind member names, or nothing where the document has another shape."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, list) else []


def _readable_routes(routes: list[object]) -> dict[int, EgressRoute]:
    """The routes of a faulty document that are good by themselves, by their index."""
    readable: dict[int, EgressRoute] = {}
    for index, route in enumerate(routes):
        try:
            readable[index] = EgressRoute.model_validate(route)
        except ValidationError:
            continue  # its faults are already reported
    return readable


def _duplicate_ids(document: object) -> Iterator[Fault]:
    """Ids of rules and routes are unique together: errors and audit records name either by one field."""
    seen: set[str] = set()
    for list_path, name in ((("egress", "rules"), "ruleId"), (("egressRoutes",), "egressRuleId")):
        for index, item in enumerate(_items(document, *list_path)):
            identity = item.get(name) if isinstance(item, dict) else None
            if not isinstance(identity, str):
                continue
            if identity in seen:
                yield Fault(IssueCode.DUPLICATE_ID, (*list_path, index, name), "another rule or route has this id")
            seen.add(identity)


def _artifacts_out_of_order(document: object) -> Iterator[Fault]:
    """An artifact names in `after` only what stands before it, so no circle can be written."""
    earlier: set[object] = set()
    for number, artifact in enumerate(_items(document, "artifacts")):
        for index, key in enumerate(_items(artifact, "after")):
            if isinstance(key, str) and key not in earlier:
                path = ("artifacts", number, "after", index)
                yield Fault(IssueCode.ARTIFACT_INVALID_REF, path, "no earlier artifact has this key")
        key = artifact.get("artifactKey") if isinstance(artifact, dict) else None
        earlier.update([key] if isinstance(key, str) else [])


def _conflicts(routes: Mapping[int, EgressRoute], plan: CompiledRuntimePlan | None) -> Iterator[Fault]:
    rules = plan.egress.rules if plan is not None else ()
    claims = sum(map(count_claims, rules)) + sum(count_claims(route.match) for route in routes.values())
    if claims > MAX_CLAIMS:
        message = f"hosts x ports x prefixes x methods come to more than {MAX_CLAIMS} over all rules and routes"
        yield Fault(IssueCode.TOO_MANY_CLAIMS, ("egressRoutes",), message)
        return
    for tie in find_ties(routes):
        message = f"route {tie.first_rule_id} claims {tie.request} with the same precedence"
        yield Fault(IssueCode.ROUTE_CONFLICT, ("egressRoutes", tie.second_index, "match"), message)


def _digest_faults(document: object) -> Iterator[Fault]:
    if not isinstance(document, dict) or not isinstance(document.get("digest"), str):
        return
    if document["digest"] != _sha256(_encode(_unsigned(document))):  # read without faults, so it can be written
        message = "the digest is not that of the canonical JSON of the rest of this document"
        yield Fault(IssueCode.DIGEST_MISMATCH, ("digest",), message)


# --- faults to issues -------------------------------------------------------------------------------------------------


def _refuse(faults: Sequence[Fault]) -> None:
    """Raise PlanError for these faults, if there are any."""
    issues = [
        Issue(code=code, pointer=json_pointer(path), message=message) for code, path, message in faults[:MAX_ISSUES]
    ]
    if len(faults) > MAX_ISSUES:
        issues.append(Issue(code=IssueCode.MORE_ISSUES, pointer="", message=f"and more than {MAX_ISSUES} in all"))
    if issues:
        raise PlanError(issues)


def json_pointer(path: Path) -> str:
    """Write a path as an RFC 6901 pointer."""
    return "".join(f"/{_pointer_token(step)}" for step in path)


def _pointer_token(step: str | int) -> str:
    """One step, escaped by RFC 6901 section 3; what cannot be written or would not end is shown as far as it goes."""
    text = str(step).encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) > MAX_POINTER_TOKEN:
        text = f"{text[:MAX_POINTER_TOKEN]}..."
    return text.replace("~", "~0").replace("/", "~1")
