"""HTTP/1.1 (RFC 9112), read strictly: what is ambiguous is refused, never repaired.

head.py holds the values, codec.py turns head bytes into them, body.py takes framing off and puts
ours on, framing.py says which framing a message has. The codec is stateless so that a compiled twin
can take its place. Open codec.py first.
"""
