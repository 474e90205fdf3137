"""An integration without code: a manifest, which is data, read into a definition.

definition.py is the door; manifest.py says what stands in a manifest, checks.py what may stand where.
"""
