"""`python -m ocirootfs`."""

import sys

from ocirootfs.cli import main

sys.exit(main())
