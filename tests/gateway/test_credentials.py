"""Credentials for the data path: one resolution for all who wait, nothing expired, nothing printed."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.aws_keys import AwsKeys
from gateway.core.credential_cache import Credential, CredentialKey, ResolveRequest
from gateway.credentials import ATTEMPTS, MAX_FILE_BYTES, CredentialError, Credentials, LocalCredentials
from gateway.setting_kinds import CredentialPlace, EnvironmentPlace, FilePlace
from sallyport.net.tasks import TaskSet
from sallyport.secret import Secret
from tests.support.descriptors import no_descriptors

NOW = 1_800_000_000.0
KEY = CredentialKey("org_1", "sbx_1", "bnd_1", "con_1", "api_key", None, None)
REQUEST = ResolveRequest(KEY, 3, "route_1")


def credential(version: str = "v1", expires_at: float | None = None) -> Credential:
    return Credential(Secret(b"canary-" + version.encode()), expires_at, version)


class ScriptedSource:
    """A control plane that answers as told, and can be held back."""

    def __init__(self, *answers: Credential | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[ResolveRequest] = []
        self.is_asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def resolve(self, request: ResolveRequest) -> Credential:
        self.asked.append(request)
        self.is_asked.set()
        await self.gate.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    """Credentials with a clock that stands still, pauses that take no time, and every count."""

    def __init__(self, tasks: TaskSet) -> None:
        self.tasks = tasks
        self.now = NOW
        self.pauses: list[float] = []
        self.counted: list[str] = []

    def credentials(self, source: ScriptedSource | LocalCredentials, timeout_seconds: float = 5) -> Credentials:
        return Credentials(
            source,
            self.tasks,
            max_entries=64,
            max_concurrent=16,
            max_each=4,
            timeout_seconds=timeout_seconds,
            now=lambda: self.now,
            random=lambda: 0.5,
            count=self.counted.append,
            sleep=self._pause,
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def settle(self) -> None:
        """Let what runs in the background come to its end."""
        while len(self.tasks):  # noqa: ASYNC110  each turn lets the tasks take a step, there is nothing to signal
            await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    failures: list[tuple[str, BaseException]] = []
    tasks = TaskSet(lambda name, error: failures.append((name, error)))
    yield World(tasks)
    await tasks.close()
    assert failures == []


def temporary(retry_after_seconds: int = 1) -> CredentialError:
    return CredentialError("refresh_failed_temporary", temporary=True, retry_after_seconds=retry_after_seconds)


def permanent(code: str = "connection_not_active") -> CredentialError:
    return CredentialError(code, temporary=False)


async def refusal_of(credentials: Credentials) -> CredentialError:
    with pytest.raises(CredentialError) as refused:
        await credentials.fetch(KEY, REQUEST)
    return refused.value


async def test_a_thousand_waiters_cost_one_resolution(world: World) -> None:
    asyncio.get_running_loop().set_debug(False)  # a traceback kept for each of the thousand takes a second
    source = ScriptedSource(credential())
    source.gate.clear()
    credentials = world.credentials(source)
    async with asyncio.TaskGroup() as group:
        waiters = [group.create_task(credentials.fetch(KEY, REQUEST)) for _ in range(1000)]
        await asyncio.sleep(0)
        source.gate.set()
    assert len(source.asked) == 1
    assert len({id(waiter.result()) for waiter in waiters}) == 1
    assert world.counted == ["resolved"]
    assert len(credentials) == 1


async def test_a_thousand_waiters_share_one_refusal_with_an_exception_each(world: World) -> None:
    asyncio.get_running_loop().set_debug(False)
    source = ScriptedSource(permanent())
    credentials = world.credentials(source)
    async with asyncio.TaskGroup() as group:
        waiters = [group.create_task(refusal_of(credentials)) for _ in range(1000)]
    assert len(source.asked) == 1
    assert len({id(waiter.result()) for waiter in waiters}) == 1000
    assert world.counted == ["permanent"]


async def test_a_cancelled_waiter_leaves_the_resolution_to_the_others(world: World) -> None:
    source = ScriptedSource(credential())
    source.gate.clear()
    credentials = world.credentials(source)
    async with asyncio.TaskGroup() as group:
        impatient = group.create_task(credentials.fetch(KEY, REQUEST))
        patient = group.create_task(credentials.fetch(KEY, REQUEST))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.sleep(0)
        source.gate.set()
    assert impatient.cancelled()
    assert patient.result().version == "v1"
    assert len(source.asked) == 1


async def test_a_resolution_outlives_all_its_waiters(world: World) -> None:
    source = ScriptedSource(credential())
    source.gate.clear()
    credentials = world.credentials(source)
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(credentials.fetch(KEY, REQUEST))
        await asyncio.sleep(0)
        waiter.cancel()
    source.gate.set()
    await world.settle()
    assert credentials.fresh(KEY, NOW) is not None


async def test_fresh_answers_without_waiting(world: World) -> None:
    source = ScriptedSource(credential(expires_at=NOW + 1000))
    credentials = world.credentials(source)
    assert credentials.fresh(KEY, NOW) is None
    fetched = await credentials.fetch(KEY, REQUEST)
    assert credentials.fresh(KEY, NOW) is fetched
    assert await credentials.fetch(KEY, REQUEST) is fetched
    assert credentials.fresh(KEY, NOW + 1000) is None
    assert len(source.asked) == 1


async def test_a_value_that_ages_is_served_while_one_resolution_replaces_it(world: World) -> None:
    source = ScriptedSource(credential("v1", NOW + 1000), credential("v2", NOW + 2000))
    credentials = world.credentials(source)
    await credentials.fetch(KEY, REQUEST)
    world.now = NOW + 900
    served = [credentials.fresh(KEY, world.now) for _ in range(5)]
    assert {value.version for value in served if value} == {"v1"}
    await world.settle()
    renewed = credentials.fresh(KEY, world.now)
    assert renewed is not None
    assert renewed.version == "v2"
    assert source.asked == [REQUEST, REQUEST]


async def test_a_value_is_served_while_its_refresh_fails_but_not_beyond_its_end(world: World) -> None:
    source = ScriptedSource(credential("v1", NOW + 1000), temporary(60))
    credentials = world.credentials(source)
    await credentials.fetch(KEY, REQUEST)
    for world.now in (NOW + 900, NOW + 901):
        assert credentials.fresh(KEY, world.now) is not None
        await world.settle()
    assert len(source.asked) == 2, "the failure is not asked for again at once"
    world.now = NOW + 1000
    assert credentials.fresh(KEY, world.now) is None
    with pytest.raises(CredentialError) as refused:
        await credentials.fetch(KEY, REQUEST)
    assert refused.value.temporary


async def test_authority_that_was_withdrawn_ends_at_the_next_refresh(world: World) -> None:
    source = ScriptedSource(credential(), permanent("connection_not_active"))
    credentials = world.credentials(source)
    await credentials.fetch(KEY, REQUEST)
    world.now = NOW + 60
    credentials.fresh(KEY, world.now)
    await world.settle()
    assert credentials.fresh(KEY, world.now) is None


async def test_temporary_failures_are_tried_again_with_jitter(world: World) -> None:
    source = ScriptedSource(temporary(), temporary(), credential())
    assert (await world.credentials(source).fetch(KEY, REQUEST)).version == "v1"
    assert world.pauses == [0.1, 0.2]
    assert world.counted == ["resolved"]


async def test_tries_are_bounded_and_the_refusal_is_remembered(world: World) -> None:
    source = ScriptedSource(temporary())
    credentials = world.credentials(source)
    for _ in range(3):
        with pytest.raises(CredentialError) as refused:
            await credentials.fetch(KEY, REQUEST)
        assert (refused.value.code, refused.value.temporary) == ("refresh_failed_temporary", True)
        assert refused.value.retry_after_seconds == 1
    assert len(source.asked) == ATTEMPTS
    world.now += 1
    with pytest.raises(CredentialError):
        await credentials.fetch(KEY, REQUEST)
    assert len(source.asked) == 2 * ATTEMPTS


@pytest.mark.parametrize("error", [permanent(), temporary(30)])
async def test_what_is_not_worth_another_try(world: World, error: CredentialError) -> None:
    source = ScriptedSource(error)
    with pytest.raises(CredentialError):
        await world.credentials(source).fetch(KEY, REQUEST)
    assert (len(source.asked), world.pauses) == (1, [])


async def test_c11_a_source_that_never_answers_is_given_up(world: World) -> None:
    source = ScriptedSource(credential())
    source.gate.clear()
    with pytest.raises(CredentialError, match="resolution_timeout") as refused:
        await world.credentials(source, timeout_seconds=0.001).fetch(KEY, REQUEST)
    assert refused.value.temporary
    assert world.counted == ["temporary"]


async def test_c11_a_source_that_fails_in_its_own_way_is_temporary_and_not_quoted(world: World) -> None:
    with capture_logs() as logs, pytest.raises(CredentialError, match="resolution_failed") as refused:
        await world.credentials(ScriptedSource(ValueError("canary"))).fetch(KEY, REQUEST)
    assert refused.value.temporary
    assert "canary" not in f"{logs} {refused.value!r}"
    assert "ValueError" in str(logs)


async def test_c10_a_value_that_arrives_dead_is_refused(world: World) -> None:
    with pytest.raises(CredentialError, match="credential_expired"):
        await world.credentials(ScriptedSource(credential(expires_at=NOW))).fetch(KEY, REQUEST)


async def test_an_invalidation_during_a_fetch_makes_it_begin_again(world: World) -> None:
    source = ScriptedSource(credential("old"), credential("new"))
    source.gate.clear()
    credentials = world.credentials(source)
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(credentials.fetch(KEY, REQUEST))
        await source.is_asked.wait()
        assert credentials.invalidate("connection", "con_1") == 0
        source.gate.set()
    assert waiter.result().version == "new"


async def test_endless_invalidation_ends_in_a_refusal(world: World) -> None:
    class Unsettled(ScriptedSource):
        async def resolve(self, request: ResolveRequest) -> Credential:
            credentials.invalidate("all", None)
            return await super().resolve(request)

    credentials = world.credentials(Unsettled(credential()))
    with pytest.raises(CredentialError, match="invalidated") as refused:
        await credentials.fetch(KEY, REQUEST)
    assert refused.value.temporary
    assert len(credentials) == 0


async def test_invalidation_by_name(world: World) -> None:
    credentials = world.credentials(ScriptedSource(credential()))
    await credentials.fetch(KEY, REQUEST)
    assert credentials.invalidate("binding", "bnd_2") == 0
    assert credentials.invalidate("binding", "bnd_1") == 1
    assert credentials.fresh(KEY, NOW) is None
    with pytest.raises(ValueError, match="nothing"):
        credentials.invalidate("nothing", None)


async def test_a_revocation_during_a_fetch_gives_nobody_the_value(world: World) -> None:
    source = ScriptedSource(credential())
    source.gate.clear()
    credentials = world.credentials(source)
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(refusal_of(credentials))
        await source.is_asked.wait()
        credentials.revoke("connection", "con_1", NOW + 100)
        source.gate.set()
    assert (waiter.result().code, waiter.result().temporary) == ("connection_not_active", False)
    with pytest.raises(CredentialError, match="connection_not_active"):
        await credentials.fetch(KEY, REQUEST)
    assert len(source.asked) == 1
    world.now = NOW + 100
    assert (await credentials.fetch(KEY, REQUEST)).version == "v1"


async def test_c9_a_rejected_version_is_resolved_anew_once(world: World) -> None:
    source = ScriptedSource(credential("v1"), credential("v2"))
    credentials = world.credentials(source)
    await credentials.fetch(KEY, REQUEST)
    assert credentials.rejected(KEY, "v1", NOW)
    assert (await credentials.fetch(KEY, REQUEST)).version == "v2"
    assert not credentials.rejected(KEY, "v2", NOW + 1)


async def test_closing_ends_what_is_under_way(world: World) -> None:
    source = ScriptedSource(credential())
    source.gate.clear()
    credentials = world.credentials(source)
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(credentials.fetch(KEY, REQUEST))
        await asyncio.sleep(0)
        await world.tasks.close()
    assert waiter.cancelled()
    assert repr(credentials) == "<Credentials <CredentialCache 0 values, 0 refusals, 0 under way>>"


async def test_a_failure_is_logged_without_the_secret(world: World) -> None:
    with capture_logs() as logs, pytest.raises(CredentialError):
        await world.credentials(ScriptedSource(permanent())).fetch(KEY, REQUEST)
    [event] = logs
    assert event["event"] == "credential_not_resolved"
    assert (event["connection_id"], event["code"]) == ("con_1", "connection_not_active")


# Standalone mode -------------------------------------------------------------------------------------


def local(
    places: Mapping[tuple[str, ...], CredentialPlace], environ: Mapping[str, str] | None = None
) -> LocalCredentials:
    versions = iter(f"word{number}" for number in range(1, 100))
    return LocalCredentials(places, environ or {}, new_version=lambda: next(versions))


def asked(connection: str = "con_1", secret_type: str = "api_key", slot: str | None = None) -> ResolveRequest:
    return REQUEST._replace(key=KEY._replace(connection_id=connection, secret_type=secret_type, slot_key=slot))


def file_place(tmp_path: Path, content: bytes) -> FilePlace:
    path = tmp_path / "credential"
    path.write_bytes(content)
    return FilePlace(path=path)


@pytest.mark.parametrize(
    ("request_", "value"),
    [
        (asked(slot="deploy"), b"by slot key"),
        (asked(slot="other"), b"by secret type"),
        (asked(), b"by secret type"),
        (asked(secret_type="password", slot="deploy"), b"by connection"),
    ],
)
async def test_the_most_specific_place_wins(request_: ResolveRequest, value: bytes) -> None:
    source = local(
        {
            ("con_1",): EnvironmentPlace(variable="C"),
            ("con_1", "api_key"): EnvironmentPlace(variable="T"),
            ("con_1", "api_key", "deploy"): EnvironmentPlace(variable="S"),
        },
        {"C": "by connection", "T": "by secret type", "S": "by slot key"},
    )
    found = await source.resolve(request_)
    assert found.value == Secret(value)
    assert found.expires_at is None


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (asked("con_2"), "connection_not_found"),
        (asked("con_1", "password"), "credential_not_found"),
        (asked("con_1", "api_key", None), "credential_not_found"),
    ],
)
async def test_what_has_no_place(request_: ResolveRequest, code: str) -> None:
    source = local({("con_1", "api_key", "deploy"): EnvironmentPlace(variable="S")}, {"S": "x" * 8})
    with pytest.raises(CredentialError, match="add one") as refused:
        await source.resolve(request_)
    assert (refused.value.code, refused.value.temporary) == (code, False)


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"secret-1", b"secret-1"), (b"secret-1\n", b"secret-1"), ("clé-12345".encode(), "clé-12345".encode("latin-1"))],
)
async def test_one_newline_of_a_file_is_dropped(tmp_path: Path, content: bytes, value: bytes) -> None:
    source = local({("con_1",): file_place(tmp_path, content)})
    assert (await source.resolve(REQUEST)).value == Secret(value)


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (b"", "credential_unusable", "it is empty"),
        (b"\n", "credential_unusable", "it is empty"),
        (b"canary\n\n", "credential_unusable", "it contains a line feed"),
        (b"canary\r\n", "credential_unusable", "it contains a carriage return"),
        (b"canary\r\nX-Evil: 1", "credential_unusable", "it contains a carriage return"),
        (b"canary\0", "credential_unusable", "it contains a NUL"),
        ("canary€".encode(), "credential_unusable", "beyond latin-1"),
        (b"canary\xff", "credential_unusable", "not UTF-8"),
        (b"c" * (MAX_FILE_BYTES + 1), "credential_unusable", "more than 64 KiB"),
    ],
)
async def test_c4_a_file_that_holds_no_usable_secret(tmp_path: Path, content: bytes, code: str, told: str) -> None:
    source = local({("con_1",): file_place(tmp_path, content)})
    with pytest.raises(CredentialError) as refused:
        await source.resolve(REQUEST)
    error = refused.value
    assert (error.code, error.temporary) == (code, False)
    assert told in error.detail
    assert "canary" not in f"{error!r} {error}"
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


async def test_c10_keys_of_aws_end_when_their_file_says(tmp_path: Path) -> None:
    written = {"kind": "aws_session", "accessKeyId": "ASIAONE", "secretAccessKey": "canary-1", "sessionToken": "t0ken"}
    place = file_place(tmp_path, json.dumps(written | {"expiresAt": 1_900_000_000}).encode())
    source = local({("con_1",): place})
    first = await source.resolve(REQUEST)
    assert first.value == AwsKeys("ASIAONE", Secret(b"canary-1"), Secret(b"t0ken"))
    assert (first.expires_at, first.version) == (1_900_000_000, "word1")
    place.path.write_text(json.dumps(written | {"expiresAt": 1_900_000_900}))
    later = await source.resolve(REQUEST)
    assert (later.value is first.value, later.expires_at, later.version) == (True, 1_900_000_900, "word1")
    place.path.write_text(json.dumps(written | {"secretAccessKey": "canary-2"}))
    other = await source.resolve(REQUEST)
    assert (other.expires_at, other.version) == (None, "word2")
    place.path.write_text(json.dumps(written | {"secretAccessKey": "canary\r\nX: 1"}))
    with pytest.raises(CredentialError, match="secretAccessKey is refused") as refused:
        await source.resolve(REQUEST)
    assert (refused.value.code, "canary" in str(refused.value)) == ("credential_unusable", False)


async def test_c4_the_operator_is_told_of_a_secret_that_cannot_be_used(world: World, tmp_path: Path) -> None:
    credentials = world.credentials(local({("con_1",): file_place(tmp_path, b"canary\r\nX: y")}))
    with capture_logs() as logs, pytest.raises(CredentialError, match="credential_unusable"):
        await credentials.fetch(KEY, REQUEST)
    assert "it contains a carriage return" in str(logs)
    assert "canary" not in str(logs)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (make_nothing, "cannot be read (No such file or directory); create it"),
        (make_folder, "is not a regular file"),
        (make_fifo, "is not a regular file"),
    ],
)
async def test_a_file_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], None], told: str) -> None:
    make(tmp_path / "credential")
    with pytest.raises(CredentialError) as refused:
        await local({("con_1",): FilePlace(path=tmp_path / "credential")}).resolve(REQUEST)
    assert (refused.value.code, refused.value.temporary) == ("credential_not_found", False)
    assert told in refused.value.detail


async def test_a_version_is_a_word_that_changes_with_the_value_only(tmp_path: Path) -> None:
    place = file_place(tmp_path, b"secret-one\n")
    source = local({("con_1",): place})
    first, again = await source.resolve(REQUEST), await source.resolve(REQUEST)
    assert (first.version, again.version) == ("word1", "word1")
    place.path.write_bytes(b"secret-two\n")
    assert (await source.resolve(REQUEST)).version == "word2"


async def test_versions_are_random_unless_told(tmp_path: Path) -> None:
    places: dict[tuple[str, ...], CredentialPlace] = {("con_1",): file_place(tmp_path, b"secret-one")}
    found = [await LocalCredentials(places, {}).resolve(REQUEST) for _ in range(2)]
    assert found[0].version != found[1].version


async def test_a_rotated_file_reaches_a_running_gateway_within_a_minute(world: World, tmp_path: Path) -> None:
    place = file_place(tmp_path, b"secret-one\n")
    credentials = world.credentials(local({("con_1",): place}))
    first = await credentials.fetch(KEY, REQUEST)
    place.path.write_bytes(b"secret-two\n")
    assert credentials.fresh(KEY, NOW + 59) is first
    world.now = NOW + 60
    assert credentials.fresh(KEY, world.now) is first
    await world.settle()
    second = credentials.fresh(KEY, world.now)
    assert second is not None
    assert second.value == Secret(b"secret-two")


def test_problems_are_known_at_start(tmp_path: Path) -> None:
    source = local(
        {
            ("con_1",): EnvironmentPlace(variable="ABSENT"),
            ("con_2", "api_key"): file_place(tmp_path, b"fine-value"),
            ("con_3",): FilePlace(path=tmp_path / "none"),
            ("con_4",): EnvironmentPlace(variable="BAD"),
        },
        {"BAD": "canary\r"},
    )
    problems = source.problems()
    assert [line.partition(":")[0] for line in problems] == [
        "credentials con_1",
        "credentials con_3",
        "credentials con_4",
    ]
    assert "ABSENT is not set" in problems[0]
    assert "canary" not in "".join(problems)


async def test_t5_a_file_that_nobody_could_open_is_not_gone(tmp_path: Path) -> None:
    source = local({("con_1",): file_place(tmp_path, b"canary-1234")})
    assert (await source.resolve(REQUEST)).value == Secret(b"canary-1234")  # the thread is there from now on
    with no_descriptors(), pytest.raises(CredentialError) as refused:
        await source.resolve(REQUEST)
    assert (refused.value.code, refused.value.temporary) == ("resolution_failed", True)
    assert "Too many open files" in refused.value.detail
    assert (await source.resolve(REQUEST)).value == Secret(b"canary-1234")
