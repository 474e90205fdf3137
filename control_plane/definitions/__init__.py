"""What each provider is: data and small pure functions, one folder per provider.

contract.py says what a definition consists of, catalog.py lists those that come with Sallyport, generic_http makes one
of a manifest, forms.py resolves a form; control_plane/integrations.py puts all into a registry. Nothing here opens a
connection, reads a clock or reveals a secret: where a provider has to be asked, a definition describes the question and
control_plane.oauth or control_plane.webhooks asks it.
"""
