"""Which partition a publisher or node goes to."""

from aggregator.log import TOPICS, partition_of, topic_of
from schemas.verbosity import RowClass


def test_a_publisher_has_the_same_partition_on_every_machine_and_in_every_version() -> None:
    """CRC-32 (ISO-HDLC) of the name, modulo the count; the figures are written out so that a change is seen."""
    names = ("node-1", "node-2", "0f8fad5b-d9cb-469f-a165-70867728950e")
    assert [7, 5, 0] == [partition_of(name, 8) for name in names]
    assert [15, 5, 0] == [partition_of(name, 16) for name in names]


def test_the_first_topics_are_the_classes_by_name() -> None:
    assert [row_class.word for row_class in RowClass] == [topic_of(row_class) for row_class in RowClass]
    assert tuple(row_class.word for row_class in RowClass) == TOPICS[: len(RowClass)]
