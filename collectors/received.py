"""What the agent makes of the bytes that a helper calls a delivery: all of it, what is sound of it, or nothing."""

import msgspec

from collectors.delivery import Delivery, Told
from schemas.codec import check_block
from schemas.errors import WireError
from schemas.rows import Parcel, Position, Tally


class _Loose(msgspec.Struct, array_like=True):
    """A `Delivery` whose parcels are looked at one by one."""

    parcels: list[msgspec.Raw]
    positions: list[Position] = []
    documents: list[str] | None = None
    tallies: list[Tally] = []
    apart: bool = False
    told: list[Told] = []


_deliveries = msgspec.msgpack.Decoder(Delivery, strict=True)
_loose = msgspec.msgpack.Decoder(_Loose, strict=True)
_parcels = msgspec.msgpack.Decoder(Parcel, strict=True)
_GARBAGE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def open_delivery(data: bytes) -> tuple[Delivery | None, int, str]:
    """Decode and check a delivery.

    Returns:
        The delivery without the parcels that are not sound, None when nothing can be made of it; how many parcels were
        not sound; and what was wrong with the first. Positions are left out when a parcel is: they would say that its
        rows were read.
    """
    try:
        delivery = _deliveries.decode(data)
    except _GARBAGE as error:
        return _salvage(data, str(error))
    sound, note = [], ""
    for parcel in delivery.parcels:
        try:
            check_block(parcel.block)
        except WireError as error:
            note = note or str(error)
        else:
            sound.append(parcel)
    bad = len(delivery.parcels) - len(sound)
    if bad:
        delivery.parcels, delivery.positions = sound, []
    return delivery, bad, note


def _salvage(data: bytes, note: str) -> tuple[Delivery | None, int, str]:
    try:
        loose = _loose.decode(data)
    except _GARBAGE as error:
        return None, 1, str(error)
    sound = []
    for raw in loose.parcels:
        try:
            parcel = _parcels.decode(raw)
            check_block(parcel.block)
        except (*_GARBAGE, WireError):
            continue
        sound.append(parcel)
    delivery = Delivery(sound, [], loose.documents, loose.tallies, loose.apart, loose.told)
    return delivery, len(loose.parcels) - len(sound), note
