"""`python -m tests.bench.not_durable` is `python -m aggregator.server` whose log does not wait for the disk.

For measuring what that waiting costs, and nothing else: there is no option for it, on purpose.
"""

import functools
import sys

from aggregator import server, service
from aggregator.log_sqlite import SqliteLog

if __name__ == "__main__":
    service.SqliteLog = functools.partial(SqliteLog, synchronous="OFF")  # type: ignore[attr-defined,assignment]
    sys.exit(server.main())
