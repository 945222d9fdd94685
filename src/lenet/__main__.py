"""`python -m lenet` is `lenet`."""

import sys

from lenet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
