"""Rows that the agent itself makes: its own events, and capability documents as rows."""

from collections.abc import Mapping

import msgspec

from schemas.batch import Block
from schemas.rows import CAPABILITY, EVENT, Parcel
from schemas.verbosity import Level, RowClass


def document_block(subject: str, device: str, text: str, time_ns: int, collector: str) -> Block:
    """Give the block of one capability document; "" as its text says that the device is no longer described."""
    key = [device, collector]
    return Block(CAPABILITY, subject, ["collector"], [key], [0], time_ns, [0], strings={"document": [text]})


def event_parcel(
    subject: str, time_ns: int, event_type: str, message: str, detail: Mapping[str, object], *, severity: int = 5
) -> Parcel:
    """Give the parcel of an event that the agent itself has to tell."""
    text = msgspec.json.encode(detail).decode()
    block = Block(
        EVENT,
        subject,
        [],
        [[""]],
        [0],
        time_ns,
        [0],
        ints={"severity": [severity]},
        strings={"type": [event_type], "message": [message], "detail": [text]},
    )
    return Parcel(RowClass.EVENT, Level.ESSENTIAL, block)
