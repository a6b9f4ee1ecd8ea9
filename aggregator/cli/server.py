"""`muster aggregator`."""

from aggregator.server import arguments, run

__all__ = ["arguments", "run"]
