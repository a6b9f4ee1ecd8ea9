"""What every process of Muster does alike: how it says how it ended, and how it logs.

Imports nothing: the agent needs the words before its zygote is forked.
"""

import os
from typing import Final

EXIT_FAILED: Final = 1
EXIT_DEFECT: Final = 70
"""sysexits.h EX_SOFTWARE: a part of the process died; whoever keeps it running starts it again."""
EXIT_CONFIG: Final = 78
"""sysexits.h EX_CONFIG: the configuration cannot be used; starting again would not help."""


def start_logging(level: str = "") -> None:
    """Log to standard error, key=value, from `level` on; "" for MUSTER_LOG_LEVEL. The journal adds the time itself.

    No line waits for whoever reads them (`collectors.log_output`).
    """
    import logging

    from collectors.log_output import log_handler

    stamp = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    line = f"{stamp}%(levelname)s %(name)s %(message)s"
    logging.basicConfig(format=line, level=log_level(level), handlers=[log_handler()])


def log_level(level: str = "") -> str:
    """Give the level to log from: `level`, or with "" what MUSTER_LOG_LEVEL says, or INFO."""
    return (level or os.environ.get("MUSTER_LOG_LEVEL", "INFO")).upper()
