"""The shared kernel: what every part of Sallyport agrees on.

Leaves (`host`, `destination`, `request_path`, ...) are values and pure functions over the standard library;
`plan` is what was decided, `wire` turns bytes into meaning, `net` turns meaning into sockets. The kernel knows
no part (gateway, sandboxd, worker, control plane). Open `destination.py` first, then `plan/match.py`.
"""
