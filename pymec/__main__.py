"""``pymec`` and ``python -m pymec``: the command line, which Ctrl-C ends in one line even while it is imported."""

import sys

from pymec import console


def main() -> int:
    """Import and run the command line, and return its exit status."""

    def command() -> int:
        from pymec import cli

        return cli.main()

    return console.run(command)


if __name__ == "__main__":
    sys.exit(main())
