"""How a credential is written into a request head. The only place of the data path that reveals one.

prepare.py turns a route and its credentials into an Injection, once per credential version;
field.py, query.py, placeholder.py and aws_sigv4.py are the kinds. Open prepare.py first.
"""
