"""What travels in the topic `inventory`: every entry of the ledger, once for each node that it is about.

A record is a msgpack array that begins with its version. (ledger, generation, sequence) is its identity, and in a
partition sequences grow: readers drop what they have seen.
"""

from typing import Final

import msgspec

from schemas.errors import MalformedError, UnknownVersionError

INVENTORY_VERSION: Final = 1


class InventoryRecord(msgspec.Struct, array_like=True, frozen=True):
    """An entry of the ledger, as far as it is about one node."""

    ledger: str
    """The ledger's id."""
    generation: int
    sequence: int
    time_ns: int
    """When it was decided."""
    kind: str
    """A word: `device.seen`, `granted`, `tainted`."""
    node: str
    """"" for what is about none: variants, quotas."""
    devices: list[str]
    """Ledger ids."""
    claim: str
    """"" for none."""
    data: bytes
    """The entry's fields by name, as JSON; a field with its default is left out."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_record: Final = msgspec.msgpack.Decoder(InventoryRecord)


def encode_inventory(record: InventoryRecord) -> bytes:
    """Give the record's bytes."""
    return _encoder.encode((INVENTORY_VERSION, record))


def decode_inventory(data: bytes) -> InventoryRecord:
    """Read a record. Raises UnknownVersionError, or MalformedError."""
    try:
        version, body = _decoder.decode(data)
        if version != INVENTORY_VERSION:
            raise UnknownVersionError(version, (INVENTORY_VERSION,))
        return _record.decode(body)
    except msgspec.DecodeError as error:
        raise MalformedError(f"not a record of the inventory: {error}") from None
