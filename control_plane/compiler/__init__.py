"""Bindings to a plan: pure, so that the same inputs give the same bytes on any machine.

emit.py writes what one binding compiles to in the words of the plan. Nothing here knows the store or the API.
"""
