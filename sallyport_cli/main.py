"""The entry of the `sallyport` command. Old Pythons have to be able to parse this file, to be told so."""

import sys

OLDEST = (3, 13)


def run() -> None:
    """Check the Python, run the command line, leave with its status."""
    if sys.version_info[:2] < OLDEST:
        found = "%d.%d" % sys.version_info[:2]  # noqa: UP031  f-strings are younger than some Pythons that get here
        sys.stderr.write("error: sallyport needs Python 3.13 or later, and this is Python %s\n" % found)  # noqa: UP031
        sys.stderr.write("  install Python 3.13 and make an environment with it: python3.13 -m venv .venv\n")
        sys.exit(3)
    if sys.argv[1:] == ["sandboxd"]:
        # The daemon lives in small sandboxes, and the command line alone costs a quarter of what it may use.
        from sandboxd.app import main as sandboxd

        sys.exit(sandboxd())
    from sallyport_cli.app import main

    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
