"""Documents are sent when they are new or changed, and taken back when their device is gone."""

from schemas.device import DeviceKind, Document, Slot, documents_hash, encode_document
from schemas.verbosity import RowClass
from tests.collectors.intake.rig import Rig, document, rows


def test_only_what_is_new_or_changed_is_sent_and_what_is_gone_is_said(rig: Rig) -> None:
    one, two, changed = document("gpu:1"), document("gpu:2"), document("gpu:2", memory_bytes=5)
    for texts in ([one, two], [one, two], [one, changed], [changed]):
        rig.take(documents=texts)
        assert rig.intake.drain()
    sent = [(each.keys[0][0], each.strings["document"][0]) for each in rig.blocks(RowClass.CAPABILITY)]
    assert [("gpu:1", one), ("gpu:2", two), ("gpu:2", changed), ("gpu:1", "")] == sent


def test_documents_go_at_once(rig: Rig) -> None:
    rig.skip_first()
    rig.take(documents=[document("gpu:1")])
    rig.until(lambda: len(rig.spool) == 1, "the document")


def test_none_described_changes_nothing(rig: Rig) -> None:
    rig.take(documents=[document("gpu:1")])
    rig.take(rows(1))
    assert rig.intake.drain()
    assert documents_hash([document("gpu:1")]) == rig.intake.documents_hash()


def test_the_hash_is_that_of_the_set_of_all_collectors(rig: Rig) -> None:
    rig.take(documents=[document("gpu:1")])
    rig.take(documents=[document("nic:1")], collector="loud")
    assert documents_hash([document("nic:1"), document("gpu:1")]) == rig.intake.documents_hash()


def test_who_describes_something_at_an_address_is_known(rig: Rig) -> None:
    at = {
        address: encode_document(Document(f"pci:{address}", DeviceKind.GPU, slot=Slot(address=address)))
        for address in ("0000:01:00.0", "0000:02:00.0")
    }
    rig.take(documents=list(at.values()), collector="pci")
    rig.take(documents=[at["0000:02:00.0"], document("gpu:3")], collector="nvml")
    assert {"pci"} == rig.intake.describing(["0000:01:00.0", ""])
    assert {"pci", "nvml"} == rig.intake.describing(at)
    rig.take(documents=[], collector="pci")
    assert set() == rig.intake.describing(["0000:01:00.0", "0000:03:00.0"])


def test_asked_for_them_again_all_are_sent(rig: Rig) -> None:
    rig.take(documents=[document("gpu:1"), document("gpu:2")])
    assert rig.intake.drain()
    rig.intake.resend_documents()
    assert rig.intake.drain()
    assert 4 == len(rig.blocks(RowClass.CAPABILITY))


def test_a_later_document_of_a_device_supersedes_the_earlier_one(rig: Rig) -> None:
    for size in (1, 2):
        rig.take(documents=[document("gpu:1", memory_bytes=size)])
        assert rig.intake.drain()
    assert 1 == len({held.document for held in rig.spool.pending()})


def test_a_document_that_is_none_harms_nothing(rig: Rig) -> None:
    rig.take(rows(1), documents=["{", '{"device": 5}', document("gpu:1")])
    assert rig.intake.drain()
    assert 1 == len(rig.blocks(RowClass.CAPABILITY))
    assert [1] == rig.values()


def test_a_device_that_changes_its_name_is_never_told_under_two_at_once(rig: Rig) -> None:
    """A card is named by its address until its driver tells its MAC address; two names at once would be two devices."""
    rig.take(documents=[document("nic:0000:05:00.0")])
    rig.take(documents=[document("nic:02:00:00:00:0a:00")])
    assert rig.intake.drain()
    sent = [(each.keys[0][0], bool(each.strings["document"][0])) for each in rig.blocks(RowClass.CAPABILITY)]
    assert [("nic:0000:05:00.0", True), ("nic:0000:05:00.0", False), ("nic:02:00:00:00:0a:00", True)] == sent
