"""`python -m throughtime`: the same as the `throughtime` command."""

import sys

from throughtime.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
