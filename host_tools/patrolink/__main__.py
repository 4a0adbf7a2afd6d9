"""Run the command with `python -m patrolink`."""

import sys

from patrolink.cli import main

sys.exit(main())
