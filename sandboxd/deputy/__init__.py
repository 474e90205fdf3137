"""The set-up of a sandbox that its sandboxd stands outside of.

A deputy is a process in the sandbox, with the rights of any program there. It carries set-up documents out and opens
what the gateway reaches, because whatever that is has to happen inside; it has no token, no key and no way out of its
own. sandboxd hears it over a socket in the sandbox's network, believes nothing it says, and passes on what it may say.
Knows the set-up and streams; must not know routes, rules or credentials. Open `program.py` (the process), then
`door.py` (where sandboxd hears it), `delegated_setup.py` and `delegated_streams.py` (what it is asked).
"""
