"""A request that cannot be meant is refused with the two parts that contradict, or with the names that are near."""

import pytest

from aggregator.ledger.entries import PackageSet
from aggregator.ledger.model import Needs, Package
from aggregator.ledger.words import Mode
from aggregator.placement.edits import DrainNode
from aggregator.placement.request import (
    Affinities,
    Affinity,
    ContradictionError,
    Isolation,
    Need,
    Request,
    RequestError,
    UnknownNameError,
    decode,
    resolve,
)
from aggregator.routes.place import WhatIfWanted
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement.worlds import asked, name_variants


@pytest.fixture
def book() -> Book:
    found = Book()
    name_variants(found)
    found.write([PackageSet(Package("gpu_large", {"vcpus": 4}, [Needs("V100", 1)]))])
    return found


LINKED = Affinities(nvlink=Affinity.REQUIRE)


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        (Request("t", "c", package="gpu_large", needs=[Need("V100")]), ("package", "needs")),
        (Request("t", "c", package="gpu_large", amounts={"vcpus": 1}), ("package", "amounts")),
        (Request("t", "c", needs=[Need("V100")], mode=Mode.DRIVER), ("mode", "needs")),
        (asked(Need("V100"), instances=2, per_node=3), ("per_node 3", "instances 2")),
        (asked(Need("V100", profile="1g.5gb", mode=Mode.PASSTHROUGH)), ("needs[0].profile", "needs[0].mode")),
        (asked(Need("CX7", profile="1g.5gb")), ("needs[0].profile", "needs[0].variant")),
        (
            asked(Need("V100", mode=Mode.DRIVER), isolation=Isolation.SINGLETON),
            ("isolation 'singleton'", "mode 'driver'"),
        ),
        (asked(Need("CX7"), affinity=LINKED), ("affinity.nvlink", "needs")),
        (asked(Need("V100", profile="1g.5gb"), affinity=LINKED), ("affinity.nvlink", "needs[0].profile")),
    ],
)
def test_a_contradiction_names_its_two_parts(book: Book, request_: Request, parts: tuple[str, str]) -> None:
    with pytest.raises(ContradictionError) as refused:
        resolve(book.state, request_)
    assert parts == refused.value.parts
    assert all(part in str(refused.value) for part in parts)


@pytest.mark.parametrize(
    ("request_", "near"),
    [
        (asked(Need("V10")), "'V100'"),
        (Request("t", "c", package="gpu_larg"), "'gpu_large'"),
        (Request("t", "c", amounts={"vcpu": 1}), "'vcpus'"),
        (asked(Need("zzz")), "Known: CX7, H100, V100, VF."),
    ],
)
def test_an_unknown_name_is_told_with_those_that_are_near(book: Book, request_: Request, near: str) -> None:
    with pytest.raises(UnknownNameError, match=near):
        resolve(book.state, request_)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"tenant":"t","consumer":"c","pakage":"x"}', r"pakage: there is no such field. Did you mean 'package'"),
        (b'{"tenant":"t","consumer":"c","needs":[{"varant":"x"}]}', r"needs\[0\].varant: .*'variant'"),
        (b'{"tenant":"t","consumer":"c","affinity":{"nuna":"none"}}', r"affinity.nuna: .*'numa'"),
        (b'{"tenant":"t","consumer":"c","needs":[{"variant":"x","count":0}]}', "count"),
        (b"[]", "not what is expected"),
        (b"{", "not what is expected"),
    ],
)
def test_a_field_that_there_is_not_is_told_with_its_place(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        decode(body, Request)


@pytest.mark.parametrize(
    "request_",
    [
        Request("t", "c"),
        Request("", "c", amounts={"vcpus": 1}),
        Request("t", "c", amounts={"vcpus": 0}),
        asked(Need()),
        asked(Need("V100"), lease_seconds=0.0),
        asked(Need(where="device.nonsense == 1")),
        asked(Need(where="node.name == 'x'")),
        asked(Need("V100"), where="device.id == 'x'"),
    ],
)
def test_what_cannot_be_meant_is_refused(book: Book, request_: Request) -> None:
    with pytest.raises(RequestError):
        resolve(book.state, request_)


def test_edits_are_told_apart_by_their_word() -> None:
    wanted = decode(
        b'{"request":{"tenant":"t","consumer":"c"},"edits":[{"edit":"drain-node","node":"n1"}]}', WhatIfWanted
    )
    assert [DrainNode("n1")] == wanted.edits
    with pytest.raises(RequestError, match="drain-nod"):
        decode(b'{"request":{"tenant":"t","consumer":"c"},"edits":[{"edit":"drain-nod","node":"n1"}]}', WhatIfWanted)


@pytest.mark.parametrize(
    "request_",
    [
        asked(Need("V100", count=1024), instances=4096),
        asked(Need("V100", count=1024), Need("CX7", count=1024), instances=33),
        asked(*[Need("V100")] * 17),
    ],
)
def test_a_request_that_only_costs_time_is_refused_before_it_does(book: Book, request_: Request) -> None:
    with pytest.raises(RequestError, match="the most"):
        resolve(book.state, request_)


def test_a_hypothesis_adds_no_more_nodes_than_can_be_looked_at() -> None:
    edit = b'{"request": {"tenant": "t", "consumer": "c"}, "edits": [{"edit": "add-node", "like": "n1", "count": %d}]}'
    assert 1000 == decode(edit % 1000, WhatIfWanted).edits[0].count  # type: ignore[union-attr]
    with pytest.raises(RequestError, match="<= 1000"):
        decode(edit % 1001, WhatIfWanted)
