"""`python -m lenet` is `lenet`."""

import sys

from lenet.cli import main

if __name__ == "__main__":
    sys.exit(main())
