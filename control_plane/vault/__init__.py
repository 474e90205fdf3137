"""Secrets at rest: AES-256-GCM under one data key per organization, each wrapped by a versioned master key.

Everything that is encrypted or decrypted passes here, and here alone a stored secret is taken out of its `Secret`.
It must not know HTTP. Open envelope.py first.
"""
