"""`sallyport sandboxd`: run the daemon of a sandbox until it is told to end."""

import typer


def sandboxd() -> None:
    """Run the daemon of a sandbox. It ends on SIGTERM or SIGINT, after open streams have finished.

    Its settings are variables (docs/sandboxd.md): SALLYPORT_GATEWAY_URL and SALLYPORT_TOKEN_FILE are needed. Its log
    goes to standard error.
    """
    from sandboxd.app import main

    raise typer.Exit(main())
