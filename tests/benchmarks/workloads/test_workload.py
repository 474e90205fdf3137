"""The bytes of every workload."""

import pytest

from benchmarks.workloads.registry import WORKLOADS
from benchmarks.workloads.workload import PLACEHOLDER, Workload

_EACH = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=list(WORKLOADS))


@_EACH
def test_a_proxied_request_carries_the_placeholder_and_the_token(workload: Workload) -> None:
    head, _, body = workload.proxied_request("token").partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == f"{workload.method} http://api.bench.test{workload.path} HTTP/1.1"
    assert f"Authorization: Bearer {PLACEHOLDER}" in lines
    assert "Proxy-Authorization: Bearer token" in lines
    assert body == workload.request_body
    assert (f"Content-Length: {len(body)}" in lines) == bool(body)


@_EACH
def test_a_direct_request_differs_in_form_and_credential_only(workload: Workload) -> None:
    direct = workload.direct_request("real").decode()
    proxied = workload.proxied_request("token").decode()
    assert direct == proxied.replace(f"http://api.bench.test{workload.path}", workload.path, 1).replace(
        f"Bearer {PLACEHOLDER}", "Bearer real"
    ).replace("Proxy-Authorization: Bearer token\r\n", "")


@_EACH
def test_an_answer_is_framed_by_its_length_or_in_chunks(workload: Workload) -> None:
    head, _, body = workload.answer().partition(b"\r\n\r\n")
    framing = "Transfer-Encoding: chunked" if workload.tick_seconds else f"Content-Length: {len(body)}"
    assert framing.encode() in head.split(b"\r\n")


def test_sizes_are_what_the_names_say() -> None:
    small, post, big = WORKLOADS["small_get"], WORKLOADS["post_10k"], WORKLOADS["get_1m"]
    assert 250 <= len(small.direct_request("x" * 49)) <= 320
    assert 180 <= len(small.answer_body) <= 220
    assert len(post.request_body) == len(post.answer_body) == 10_240
    assert len(big.answer_body) == 1 << 20


def test_paths_are_unique_so_the_origin_can_tell_workloads_apart() -> None:
    answered = {*WORKLOADS.values(), *(each.beside for each in WORKLOADS.values() if each.beside is not None)}
    assert len({workload.path for workload in answered}) == len(answered)
