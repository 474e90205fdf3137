"""The daemon in the sandbox: captures traffic, ends TLS of managed hosts, carries bytes through the tunnel.

Untrusted: it holds no plan, no credential and no route, and makes no connection but to its gateway.
Start reading at `listener`; `app` puts the parts together.
"""
