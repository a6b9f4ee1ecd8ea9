"""What a watch may ask of the host besides taking rows: to say when they are on disk, and to take tables of others."""

from tests.collectors.runtime.rig import running, setup


def test_durable_emit_comes_back_when_all_before_it_is_on_disk_and_not_earlier() -> None:
    with running(setup("promising", "Promising")) as rig:
        rig.until(lambda: rig.intake.waiting)
        assert [1] == rig.intake.values("promising", "number")
        assert [] == rig.intake.values("promising", "durable")
        rig.intake.waiting.pop()()
        rig.until(lambda: rig.intake.waiting)
        assert [1] == rig.intake.values("promising", "durable")
        rig.intake.waiting.pop()()
        rig.until(lambda: rig.intake.values("promising", "durable") == [1, 2])
        assert [] == rig.intake.waiting


def test_watch_that_waits_for_the_disk_can_be_stopped() -> None:
    with running(setup("promising", "Promising")) as rig:
        rig.until(lambda: rig.intake.waiting)
    rig.intake.waiting.pop()()  # the disk comes back to somebody who is no more


def test_tables_that_nobody_declares_are_taken_of_those_who_hand_them_on_and_travel_apart() -> None:
    with running(setup("handing", "HandsOn")) as rig:
        rig.until(lambda: rig.status("handing").errors.get("undeclared"))
    taken = [delivery for name, delivery in rig.intake.taken if name == "handing"]
    assert [("shop", ["till"])] == [
        (parcel.block.measurement, parcel.block.attributes) for delivery in taken for parcel in delivery.parcels
    ]
    assert [True] == [delivery.apart for delivery in taken if delivery.parcels]
    assert {"names": 3, "undeclared": 1} == rig.status("handing").errors
