"""What a collector describes of another subject travels as that subject's, and goes when it is said to be gone."""

import msgspec

from collectors.blocks import MAX_TOLD_BYTES, Packer
from collectors.delivery import Delivery, Told
from collectors.received import open_delivery
from schemas.device import DeviceKind, Document, documents_hash, encode_document
from schemas.rows import Described
from schemas.verbosity import RowClass
from tests.collectors.intake.rig import Rig, document


def sent(rig: Rig) -> list[tuple[str, str, str]]:
    """Give subject, device and text of what the spool holds."""
    assert rig.intake.drain()
    return [(one.subject, one.keys[0][0], one.strings["document"][0] or "") for one in rig.blocks(RowClass.CAPABILITY)]


def packed(*items: object) -> tuple[Delivery | None, dict[str, int]]:
    packer = Packer((), "node-1")
    for item in items:
        packer.add(item)
    data = packer.pack()
    return (open_delivery(data)[0] if data else None), packer.faults


def test_documents_of_a_subject_are_told_as_its_own(rig: Rig) -> None:
    rig.take(documents=[document("gpu:1")], told=[Told("bmc:b1", [document("psu:b1/1")])])
    assert [("gpu:1"), ("psu:b1/1")] == [device for _, device, _ in sent(rig)]
    assert "bmc:b1" == sent(rig)[1][0] != sent(rig)[0][0]
    assert documents_hash([document("gpu:1"), document("psu:b1/1")]) == rig.intake.documents_hash()


def test_one_subject_says_nothing_of_another(rig: Rig) -> None:
    rig.take(told=[Told("bmc:b1", [document("psu:b1/1")]), Told("bmc:b2", [document("psu:b2/1")])])
    rig.take(documents=[], told=[Told("bmc:b2", [])])
    assert [("bmc:b2", "psu:b2/1", "")] == sent(rig)[2:]
    assert documents_hash([document("psu:b1/1")]) == rig.intake.documents_hash()


def test_what_could_not_be_read_is_not_gone(rig: Rig) -> None:
    rig.take(told=[Told("bmc:b1", [document("psu:b1/1"), document("psu:b1/2")])])
    rig.take(told=[Told("bmc:b1", [document("psu:b1/1", memory_bytes=5)], whole=False)])
    assert [("bmc:b1", "psu:b1/1", document("psu:b1/1", memory_bytes=5))] == sent(rig)[2:]


def test_asked_for_them_again_each_subjects_are_sent_as_its_own(rig: Rig) -> None:
    rig.take(told=[Told("bmc:b1", [document("psu:b1/1")])])
    before = sent(rig)
    rig.intake.resend_documents()
    assert before * 2 == sent(rig)


def test_yielded_by_a_collector_they_travel_as_texts() -> None:
    one = Document("psu:b1/1", DeviceKind.PSU)
    delivery, faults = packed(Described("bmc:b1", (one,)), Described("bmc:b2", (), whole=False))
    assert delivery is not None
    assert ([Told("bmc:b1", [encode_document(one)]), Told("bmc:b2", [], whole=False)], {}) == (delivery.told, faults)


def test_a_document_that_cannot_be_used_takes_nothing_else_along() -> None:
    good, bad = Document("psu:b1/1", DeviceKind.PSU), Document("psu:b1/2", DeviceKind.PSU, merge_keys=[5])  # type: ignore[list-item]
    delivery, faults = packed(Described("bmc:b1", (good, bad)))
    assert delivery is not None
    assert ([Told("bmc:b1", [encode_document(good)], whole=False)], {"document": 1}) == (delivery.told, faults)


def test_a_flood_and_a_subject_without_name_are_refused() -> None:
    large = Document("psu:b1/1", DeviceKind.PSU, capabilities={"x": "y" * MAX_TOLD_BYTES})
    assert (None, {"too_large": 1, "garbage": 1}) == packed(Described("bmc:b1", (large,)), Described("", ()))


def test_parcels_that_are_not_sound_take_no_documents_along() -> None:
    loose = [[b"no parcel"], [], None, [], False, [["bmc:b1", ["{}"], True]]]
    delivery, bad, _ = open_delivery(msgspec.msgpack.encode(loose))
    assert delivery is not None
    assert ([Told("bmc:b1", ["{}"])], 1) == (delivery.told, bad)
