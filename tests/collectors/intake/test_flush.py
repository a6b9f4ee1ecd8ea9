"""When rows are committed: at once, when there are enough, or after a while."""

from schemas.codec import decode_body
from schemas.rows import Parcel
from schemas.verbosity import Level, RowClass
from tests.collectors.intake.rig import Rig, event, rows


def test_the_first_batch_of_a_stream_goes_at_once_and_the_second_waits(rig: Rig) -> None:
    rig.take(rows(1))
    rig.until(lambda: len(rig.spool) == 1, "the first batch")
    rig.take(rows(2))
    rig.settle()
    assert [1] == rig.values()


def test_eighty_rows_go_at_once(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(*range(79)))
    rig.settle()
    assert [] == rig.values()
    rig.take(rows(79))
    rig.until(lambda: rig.values() == list(range(80)), "eighty rows")


def test_telemetry_that_always_has_enough_rows_goes_once_a_second(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(*range(80)))
    rig.until(lambda: 80 == len(rig.values()), "the first eighty rows")
    rig.clocks.now += 0.9
    for number in range(1, 4):
        rig.take(rows(*range(80 * number, 80 * number + 80)))
    rig.settle()
    assert 80 == len(rig.values())
    rig.pass_(0.2)
    assert list(range(320)) == rig.values()
    assert 2 == rig.commits


def test_four_hundred_rows_of_telemetry_wait_for_nothing(rig: Rig) -> None:
    rig.skip_first()
    for number in range(6):
        rig.take(rows(*range(80 * number, 80 * number + 80)))
    rig.until(lambda: 480 == len(rig.values()), "the first eighty rows, and four hundred more")


def test_log_records_are_not_held_back(rig: Rig) -> None:
    rig.skip_first()
    for number in (1, 2):
        rig.take(rows(*range(80), row_class=RowClass.LOG))
        rig.until(lambda many=80 * number: many == len(rig.values(row_class=RowClass.LOG)), "eighty records")


def test_what_is_nearly_due_goes_along_with_what_is(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(1, 2))
    rig.pass_(2.4)
    rig.take(rows(3, level=Level.ESSENTIAL))
    rig.pass_(2.7)
    assert ([3], [1, 2]) == (rig.values(level=Level.ESSENTIAL), rig.values(level=Level.STANDARD))
    assert 1 == rig.commits


def test_fewer_go_after_five_seconds(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(1))
    rig.pass_(4.9)
    assert [] == rig.values()
    rig.take(rows(2))
    rig.pass_(0.2)
    assert [1, 2] == rig.values()


def test_events_go_at_once_and_take_nobody_along(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(1))
    rig.take(event(2))
    rig.until(lambda: rig.values(row_class=RowClass.EVENT) == [2], "the event")
    assert [] == rig.values()


def test_while_somebody_watches_rows_go_after_a_second(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(1))
    rig.policy.watch(30)
    rig.pass_(0.9)
    assert [] == rig.values()
    rig.pass_(0.2)
    assert [1] == rig.values()


def test_what_is_not_due_is_on_disk_after_a_stop(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(1))
    rig.intake.stop()
    rig.intake.stop()
    assert [1] == rig.values()


def test_who_asks_for_the_disk_is_told_once_all_that_was_taken_is_on_it(rig: Rig) -> None:
    rig.skip_first()
    told: list[list[int]] = []
    rig.take(rows(1))
    rig.intake.when_committed(lambda: told.append(rig.values()))
    rig.until(lambda: told, "the word")
    assert [[1]] == told
    rig.intake.when_committed(lambda: told.append([]))
    rig.until(lambda: len(told) == 2, "the word that there was nothing to write")


def test_tables_that_nobody_declares_have_batches_of_their_own(rig: Rig) -> None:
    rig.skip_first()
    rig.take(rows(1), rows(2, measurement="shop"), rows(3, measurement="till"), apart=True)
    rig.take(rows(4), rows(5, measurement="disk"))
    rig.intake.drain()
    bodies = [rig.spool.body(held) for held in rig.spool.pending()]
    found = sorted(sorted({block.measurement for block in decode_body(body)}) for body in bodies if body)
    assert [["cpu"], ["cpu", "disk"], ["shop"], ["till"]] == found


def test_what_needs_another_right_shares_no_batch_with_what_the_node_says_of_itself(rig: Rig) -> None:
    """Else a token without that right has the node's own rows set aside."""

    def about(subject: str, value: int, measurement: str = "cpu") -> Parcel:
        parcel = rows(value, measurement=measurement)
        parcel.block.subject = subject
        return parcel

    rig.skip_first()
    rig.take(rows(1), about("bmc:a", 2), about("bmc:b", 3), about("switch-7", 4))
    rig.take(rows(5), about("bmc:a", 6, measurement="disk"))
    rig.intake.drain()
    bodies = [rig.spool.body(held) for held in rig.spool.pending()]
    found = sorted(sorted({block.subject for block in decode_body(body)}) for body in bodies if body)
    assert [["bmc:a", "bmc:b"], ["node-1"], ["switch-7"]] == found
    assert [1, 2, 3, 4, 5, 6] == sorted(rig.values())
