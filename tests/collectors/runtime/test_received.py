"""Of a delivery, what is sound is taken and what is not is counted."""

import msgspec

from collectors.delivery import Delivery
from collectors.received import open_delivery
from schemas.batch import Block
from schemas.rows import Parcel, Position
from schemas.verbosity import Level, RowClass


def parcel(**fields: object) -> Parcel:
    block = Block("fan", "node-1", [], [[""]], [0], 17, [0], ints={"turns": [1]})
    for name, value in fields.items():
        setattr(block, name, value)
    return Parcel(RowClass.TELEMETRY, Level.STANDARD, block)


def opened(*parcels: Parcel) -> tuple[Delivery | None, int, str]:
    return open_delivery(msgspec.msgpack.encode(Delivery(list(parcels), [Position("tape", "1")], ["{}"])))


def test_sound_delivery_is_taken_whole() -> None:
    delivery, bad, _ = opened(parcel(), parcel())
    assert delivery is not None
    assert (len(delivery.parcels), delivery.positions, bad) == (2, [Position("tape", "1")], 0)


def test_block_that_contradicts_itself_is_left_out_with_the_positions() -> None:
    delivery, bad, note = opened(parcel(), parcel(rows=[3]))
    assert delivery is not None
    assert (len(delivery.parcels), delivery.positions, delivery.documents, bad) == (1, [], ["{}"], 1)
    assert "points to a key" in note


def test_column_of_a_wrong_type_harms_only_its_parcel() -> None:
    delivery, bad, _ = opened(parcel(ints={"turns": ["text"]}), parcel())
    assert delivery is not None
    assert ([each.block.ints for each in delivery.parcels], bad) == ([{"turns": [1]}], 1)


def test_bytes_that_are_nothing_give_nothing() -> None:
    assert open_delivery(b"\xc1garbage")[:2] == (None, 1)
