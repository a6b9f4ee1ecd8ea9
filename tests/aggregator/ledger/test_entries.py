"""Every entry that can be written can be read, and does something."""

from typing import get_args

import msgspec
import pytest

from aggregator.ledger.apply import known_entries
from aggregator.ledger.entries import Entry, decode_entry


def test_every_entry_that_can_be_read_is_applied() -> None:
    """One that a newer Muster wrote is refused as it is read, and never skipped."""
    assert frozenset(get_args(Entry)) == known_entries()
    with pytest.raises(msgspec.ValidationError):
        decode_entry(msgspec.msgpack.encode([9999]))
