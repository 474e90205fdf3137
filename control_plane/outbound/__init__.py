"""How the control plane asks what is outside: one session under the address policy.

What is asked, and what an answer means, is the business of the rooms that ask (control_plane.oauth, control_plane.push,
control_plane.webhooks). Nothing here knows of secrets or of the database.
"""
