"""Questions about the past: which moment is meant, and whether the ledger knows it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from fastapi import Query

from aggregator.ledger.cleaning import DeviceUnknownError
from aggregator.ledger.nodes import NodeUnknownError
from aggregator.ledger.state import State
from aggregator.query_text import parse_time
from schemas.errors import QueryError

if TYPE_CHECKING:
    from aggregator.service import Service

AsOf = Annotated[
    str, Query(description="a ledger sequence, a time (2026-01-31T12:00Z, 2026-01-31), or how long ago (7d)")
]
T = TypeVar("T")
_SEQUENCES: Final = 10**15
"""A number below is a ledger sequence, one above nanoseconds since 1970."""


async def ask(service: "Service", as_of: str, question: Callable[[State], T], *, whole: bool) -> T:
    """Answer from the state, or from that of a moment; `whole`: see `Past.ask`.

    Raises QueryError for what is no moment or one to come, LedgerGoneError for one that the ledger does not reach, and
    what `question` raises: what was not known then is said to be so as of then.
    """
    if not as_of:
        return await service.ledger.read(question)
    now_ns = time.time_ns()
    moment = parse_time(as_of, now_ns)
    past = service.book.past
    try:
        if moment < _SEQUENCES and as_of.strip().isdecimal():
            return await past.ask(question, sequence=moment, whole=whole)
        if moment > now_ns:
            raise QueryError(f"{as_of!r} is yet to come: the ledger tells what was so")
        return await past.ask(question, time_ns=moment, whole=whole)
    except (NodeUnknownError, DeviceUnknownError) as error:
        raise type(error)(f"as of {as_of}: {error}") from None
