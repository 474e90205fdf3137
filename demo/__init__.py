"""The demonstration: our own origins on loopback, a real gateway, real clients that hold no key.

`python -m demo` (`make demo`) needs no internet. It is not packaged.
It must not know how the gateway works inside: it speaks to it as a user does, by files and the `sallyport` command.

Open `__main__.py` first, then `steps.py` for what each client does and `origins.py` for who answers.
The tests of real clients in `tests/flow` use the same origins.
"""
