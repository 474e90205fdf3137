"""The `sallyport` command: one module per subcommand, each a short story from arguments to an exit status.

It may know every other part, and imports them only when a command needs them. It opens no socket and serves nothing
itself: listeners and links are sallyport.net's, HTTP requests to a gateway are control_client's.
Open app.py first.
"""
