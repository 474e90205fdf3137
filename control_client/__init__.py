"""What other processes use to talk to Sallyport: HTTP client sessions stand here and nowhere else.

So far it knows one part, the gateway: its admin surface and what its proxy port answers itself. Plan watch,
credential resolution, the client feed and the push receiver come with the control plane.
It must not know any part's inside. Open gateway.py first.
"""
