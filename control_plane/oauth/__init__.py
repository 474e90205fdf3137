"""The room that asks providers: token endpoints, GitHub's App tokens, AWS's STS; and nothing else.

It reveals the secrets a question is made of, and gives back secrets and safe words. Errors are told apart as temporary,
permanent, or of one request, never with a body of the provider's. Open provider_session.py first: every question goes
out there, under the address policy. It knows no database: control_plane.authorizations and control_plane.upheld bring
what is asked for and keep what comes back.
"""
