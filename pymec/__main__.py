"""``python -m pymec`` is the command line."""

import sys

from pymec.cli import main

if __name__ == "__main__":
    sys.exit(main())
