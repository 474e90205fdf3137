"""The worker: what has to happen, outside the data path, for a sandbox to be as its plan says.

Duty so far: an application of a plan (write it, wait for the gateways, push the set-up, confirm), reported step by
step. Must not know: SQL, secrets, the inside of a gateway; it meets the others over `control_client`.
Open `apply_plan.py` first, then `applications.py` (which ones run), `api.py` (how they are asked for).
"""
