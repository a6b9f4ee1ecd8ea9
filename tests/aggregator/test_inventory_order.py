"""Whose facts come first: a partition that has little to say does not wait for one that has much."""

from pathlib import Path

from aggregator.inventory import TOPICS
from aggregator.log import Entry, partition_of
from tests.aggregator.test_inventory import PARTITIONS, Node, gpu, rig

BACKLOG = 2000
"""Documents: a few nodes that describe themselves anew."""
SLICE = 150
"""Documents of one partition that another has to wait for, at most: some hundredths of a second of a core."""


def in_another_partition(name: str) -> str:
    """Give a name whose partition is another one than that of `name`."""
    mine = partition_of(name, PARTITIONS)
    return next(f"q{number}" for number in range(1000) if partition_of(f"q{number}", PARTITIONS) != mine)


async def test_a_change_in_a_quiet_partition_is_there_before_the_backlog_of_a_busy_one(tmp_path: Path) -> None:
    async with rig(tmp_path) as one:
        busy, quiet = Node("n1"), Node(in_another_partition("n1"))
        await one.run_of(quiet.name, "e1", 100)
        backlog = [busy.document(gpu(number)) for number in range(BACKLOG)]
        place = partition_of(busy.name, PARTITIONS)
        await one.log.append([Entry(TOPICS[0], place, record) for record in backlog])
        await one.inventory.read_all()  # it is being worked at when the other one speaks
        late = quiet.document(gpu(1, serial="late"))
        await one.log.append([Entry(TOPICS[0], partition_of(quiet.name, PARTITIONS), late)])
        before = one.inventory.status.documents
        await one.inventory.read_all()
        assert "late" in one.devices()
        assert one.ledger.durable == one.ledger.peek().sequence
        assert 0 < one.inventory.status.documents - before <= SLICE + 1
        while await one.inventory.read_all():
            pass
        assert BACKLOG + 1 == len(one.devices()) == one.inventory.status.documents
