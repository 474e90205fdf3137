"""GitHub: git, its API and its events, at github.com and at an Enterprise Server.

The two variants (cloud.py, enterprise_server.py) differ in where things are (site.py) and share all else: what a
binding compiles to (binding.py), the App and its installations (app.py), the events (webhooks.py).
"""
