"""The gateway: writes credentials into requests outside the sandbox, and forwards them.

It ends proxy connections, decides each request against the sandbox's plan, fetches the
credential, injects it, relays the answer and records what happened. Decisions are made in
`gateway.core`, which is pure; everything else here is the shell round it.

It knows nothing of sandboxd, the worker or the control plane beyond the wire between them.

Open first: `gateway/serve.py`, one exchange in time order.
"""
