"""``python -m scalselect``: the command line."""

import sys

from scalselect.cli import main

sys.exit(main())
