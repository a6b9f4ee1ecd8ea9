"""`python -m aggregator.cli` is `muster`."""

import sys

from aggregator.cli import main

sys.exit(main())
