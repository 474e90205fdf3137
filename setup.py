"""What pyproject.toml cannot say: with SALLYPORT_COMPILE=1 a wheel holds the hot path compiled (docs/decisions/0009).

The sources are the same either way. Without it, and so in a checkout and an editable installation, nothing is
compiled. `make compiled` builds such a wheel into an environment of its own.
"""

import os

from setuptools import Extension, setup

# What a request passes through, and what those modules hold on to. Left out, each for a reason: what tests replace or
# subclass (audit, credentials, open_streams), and what is not hot.
COMPILED = (
    "sallyport/net/buffer_budget.py",
    "sallyport/net/bulk_turns.py",
    "sallyport/net/clock.py",
    "sallyport/net/tls.py",
    "sallyport/net/tunnel.py",
    "sallyport/net/tunnel_pace.py",
    "sallyport/net/tunnel_stream.py",
    "sallyport/wire/websocket.py",
    "sallyport/plan/match.py",
    "sallyport/plan/precedence.py",
    "sallyport/request_path.py",
    "sallyport/token_bucket.py",
    "sallyport/wire/http1/body.py",
    "sallyport/wire/http1/codec.py",
    "sallyport/wire/http1/framing.py",
    "sallyport/wire/http1/head.py",
    "sallyport/wire/http1/shape.py",
    "sallyport/wire/yamux/frames.py",
    "sallyport/wire/yamux/sending.py",
    "sallyport/wire/yamux/session.py",
    "sallyport/wire/yamux/stream.py",
    "sallyport/wire/yamux/stream_state.py",
    "sallyport/wire/yamux/window.py",
    "gateway/core/authority.py",
    "gateway/core/classify.py",
    "gateway/core/decision.py",
    "gateway/core/downstream_head.py",
    "gateway/core/inject/placeholder.py",
    "gateway/core/inject/prepare.py",
    "gateway/core/inject/query.py",
    "gateway/core/placeholders.py",
    "gateway/core/pool_state.py",
    "gateway/core/request_limit.py",
    "gateway/core/route_table.py",
    "gateway/core/scrub.py",
    "gateway/core/upstream_head.py",
    "gateway/answer.py",
    "gateway/audit_line.py",
    "gateway/downstream.py",
    "gateway/metrics.py",
    "gateway/parts.py",
    "gateway/record.py",
    "gateway/request_body.py",
    "gateway/revocations.py",
    "gateway/serve.py",
    "gateway/stream.py",
    "gateway/upstream.py",
)


def extensions() -> list[Extension]:
    """Return what is to be compiled; needs mypy and a C compiler only when it was asked for."""
    if os.environ.get("SALLYPORT_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    # One library for each package, so that a sandboxd loads what it runs (1.2 MiB less) and not the gateway's as well.
    groups: list[tuple[list[str], str | None]] = [
        ([path for path in COMPILED if path.startswith(f"{package}/")], package) for package in ("sallyport", "gateway")
    ]
    # -g0: a stripped-down object; a traceback names Python lines either way.
    # A cache of its own: where libraries are apart, what an earlier build left in mypy's would be taken for this one's.
    options = ["--cache-dir=build/mypy"]
    found: list[Extension] = mypycify([*options, *COMPILED], opt_level="3", debug_level="0", separate=groups)
    for each in found:
        # Functions of ours call one another directly, and not by a table that another library could write to.
        each.extra_compile_args.append("-fvisibility=hidden")
    scan = Extension("sallyport.wire.http1._scan", ["sallyport/wire/http1/_scan.c"], extra_compile_args=["-O3", "-g0"])
    return [*found, scan]


setup(ext_modules=extensions())
