"""The control plane: what was decided, who may speak, which credential belongs where.

It keeps sandboxes, plans by revision, connections with their credentials encrypted, and the keys that sign tokens; it
answers gateways, workers and operators over HTTP. Modules here hold the logic; `store/` is the only SQL, `vault/` the
only cryptography at rest, `api/` the only HTTP. It must not know gateway, sandboxd or worker.
Open app.py first.
"""
