"""Sandboxes that this worker runs: places for processes from which no way leads but through their sandboxd.

`provider` says what a kind of them must be able to do; `local` is the one that needs Linux alone. `sandboxes` remembers
which there shall be. docs/sandbox-providers.md tells what holds what in.
"""
