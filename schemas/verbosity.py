"""The two axes by which rows are sorted on their way: class and level.

Source: the classes follow the telemetry charter of the Open Programmable Infrastructure project (OPI), provisioning
and life cycle working group; levels of log records follow RFC 5424 severities.
"""

from enum import IntEnum


class RowClass(IntEnum):
    """What a row is. The number is what travels; the name is what people see."""

    TELEMETRY = 0
    """A measured value: environment, load, error count or usage."""
    LOG = 1
    """A record that some program wrote for people."""
    EVENT = 2
    """A change of state, or a heartbeat."""
    CAPABILITY = 3
    """A device's document: what it is and what it can do."""

    @property
    def word(self) -> str:
        """The class as it is spelled in configuration, API and tables."""
        return self.name.lower()


class Level(IntEnum):
    """Verbosity: how much somebody must want to know to be sent a row. Lower is more important."""

    ESSENTIAL = 0
    """Always sent: what an alert or the inventory needs."""
    STANDARD = 1
    """What a dashboard shows."""
    DETAILED = 2
    """What one looks at while chasing a fault: per core, per queue, per link."""
    DEBUG = 3
    """What only the author of a collector wants."""

    @property
    def word(self) -> str:
        """The level as it is spelled in configuration, API and tables."""
        return self.name.lower()


def level_of(word: str) -> Level:
    """Give the level spelled `word`. Raises ValueError that lists the four words."""
    try:
        return Level[word.upper()]
    except KeyError:
        words = ", ".join(level.word for level in Level)
        raise ValueError(f"{word!r} is not a level; levels are {words}") from None


def class_of(word: str) -> RowClass:
    """Give the class spelled `word`. Raises ValueError that lists the four words."""
    try:
        return RowClass[word.upper()]
    except KeyError:
        words = ", ".join(row_class.word for row_class in RowClass)
        raise ValueError(f"{word!r} is not a class; classes are {words}") from None


_LEVEL_OF_SEVERITY = (
    Level.ESSENTIAL,  # 0 emergency
    Level.ESSENTIAL,  # 1 alert
    Level.ESSENTIAL,  # 2 critical
    Level.ESSENTIAL,  # 3 error
    Level.STANDARD,  # 4 warning
    Level.STANDARD,  # 5 notice
    Level.DETAILED,  # 6 informational
    Level.DEBUG,  # 7 debug
)


def level_of_severity(severity: int) -> Level:
    """Give the level of a log record of RFC 5424 severity 0 (emergency) to 7 (debug)."""
    return _LEVEL_OF_SEVERITY[severity]
