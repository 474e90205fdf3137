"""Measures the gateway beside its peers: one run, one machine, rounds interleaved (docs/performance.md).

`python -m benchmarks` starts every subject on one core, drives it from another, and writes `results/latest.json`
and `results/latest.md`. It reads only what a process reports of itself; it never looks inside the gateway.
A workload is one module of `workloads/`, a peer one module of `peers/` with its configuration beside it.

Open `__main__.py` first, then `load.py`; for the rows by a tunnel or a door `sandbox_side.py`, then `pace.py`.
"""
