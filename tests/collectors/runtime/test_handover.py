"""What was described of others is taken back when its collector says that there is nothing."""

from collections.abc import Callable

import msgspec

from collectors.counters import Counters
from collectors.delivery import Delivery, Told
from collectors.handover import Handover
from schemas.verbosity import Level


class Taken:
    """An intake that keeps what it is given."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    def level(self, collector: str) -> Level:
        return Level.DEBUG

    def positions(self, collector: str) -> dict[str, str]:
        return {}

    def ready(self) -> bool:
        return True

    def take(self, collector: str, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    def when_committed(self, call: Callable[[], None]) -> None:
        call()


def handing_over(intake: Taken, *deliveries: Delivery) -> Handover:
    handover = Handover(
        "redfish",
        intake,
        Counters(),
        1000.0,
        wall_ns=lambda: 0,
        answer=lambda _: None,
        device_changed=lambda: None,
        soon=lambda call: call(),
    )
    for number, delivery in enumerate(deliveries):
        handover.offer(number, msgspec.msgpack.encode(delivery), 0.0, answer=False)
    return handover


def test_nothing_there_takes_back_what_was_described_of_each_subject() -> None:
    intake = Taken()
    told = [Told("bmc:b1", ["{}"]), Told("bmc:b2", ["{}"]), Told("bmc:b3", [], whole=False)]
    handover = handing_over(intake, Delivery([], told=told), Delivery([], told=[Told("bmc:b2", [])]))
    handover.nothing_there()
    assert [told, [Told("bmc:b2", [])], [Told("bmc:b1", []), Told("bmc:b3", [])]] == [
        one.told for one in intake.deliveries
    ]


def test_where_nothing_was_described_nothing_is_taken_back() -> None:
    intake = Taken()
    handing_over(intake).nothing_there()
    assert [] == intake.deliveries
