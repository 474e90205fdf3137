"""The admin listener: health, metrics, and what may be changed or reached at run time (contracts section 10).

surface.py first: it names every route. Only here does the gateway use an HTTP framework.
"""
