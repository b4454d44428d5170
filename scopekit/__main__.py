"""Runs the command line: ``python -m scopekit``."""

import sys

from scopekit.cli import main

if __name__ == "__main__":
    sys.exit(main())
