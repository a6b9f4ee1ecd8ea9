"""What can go wrong with a collector, and what it means to the scheduler."""

from typing import Final

from collectors._values import plain
from collectors.channel import Problem, ProblemKind
from collectors.registry import ContractError
from schemas.errors import ConfigError, NoDataError, PartialCollectError, StartupError


class EmitAbortedError(Exception):
    """Raised by `emit` in a watch that is to stop: what was handed over last may not have been taken. Let it pass."""


class FloodError(Exception):
    """More than one call may give."""


class WatchStuckError(Exception):
    """A watch that does not end."""


_KINDS: Final = (
    (NoDataError, ProblemKind.NO_DATA),
    (StartupError, ProblemKind.STARTUP),
    (PartialCollectError, ProblemKind.PARTIAL),
    (ConfigError, ProblemKind.CONFIG),
    (ContractError, ProblemKind.CONTRACT),
    (MemoryError, ProblemKind.MEMORY),
    (WatchStuckError, ProblemKind.WATCH),
)


def problem_of(error: BaseException, *, importing: bool = False) -> Problem:
    """Give what an exception means to the scheduler."""
    kind = ProblemKind.IMPORT if importing else ProblemKind.ERROR
    for error_class, its_kind in _KINDS:
        if isinstance(error, error_class):
            kind = its_kind
    try:
        text = plain(str(error))[:1000]
    except Exception:  # noqa: BLE001  # an exception whose own text raises
        text = "(its text cannot be read)"
    name = plain(type(error).__name__)[:80]
    failed = getattr(error, "failed", 1)
    retry = getattr(error, "retry", True)
    failed = failed if type(failed) is int and abs(failed) < 1 << 31 else 1
    return Problem(kind, name, text, bool(retry), failed, getattr(error, "new_process", False) is True)
