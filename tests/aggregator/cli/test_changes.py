"""Changes on a terminal: an aggregator that comes back is gone on with where it was."""

from collections.abc import Generator
from typing import Any

import pytest

from aggregator.cli import changes
from aggregator.cli.changes import follow, said
from aggregator.cli.client import Client, ServerError


class Streams(Client):
    """Gives one stream after another; an error is raised in its place."""

    def __init__(self, *streams: list[bytes] | Exception) -> None:
        super().__init__("http://127.0.0.1:1")
        self.left = list(streams)
        self.asked: list[Any] = []

    def stream(self, path: str, parameters: Any) -> Generator[bytes, None, None]:
        self.asked.append(parameters["after"])
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        yield from found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_AGAIN_SECONDS", 0.0)


def test_killed_before_anything_happened_it_resumes_from_the_first_place() -> None:
    client = Streams([b": 7", b"id: 1.7"], ServerError("no aggregator answers", passing=True),
                     [b"id: 1.8", b"event: passed", b"data: {}"], ServerError("list again"))  # fmt: skip
    found: list[changes.ServerEvent] = []
    with pytest.raises(ServerError, match="list again"):
        found.extend(follow(client, "/v1/watch", {}))
    assert ["", "1.7", "1.7", "1.8"] == client.asked
    with pytest.raises(ServerError, match="no aggregator"):
        next(follow(Streams(ServerError("no aggregator answers", passing=True)), "/v1/watch", {}))


def test_one_that_stays_away_is_told() -> None:
    away = [ServerError("no aggregator answers", passing=True)] * (changes._TRIES + 1)
    with pytest.raises(ServerError, match="went away: no aggregator answers"):
        next(follow(Streams([b"id: 1.7"], *away), "/v1/watch", {}))


VIEW = {
    "publisher": "n1",
    "collector": "pci",
    "document": "pci:0000:3b:00.0",
    "profile": 3,
    "slot": {"path": "0000:00:01.0/00.0", "address": "0000:3b:00.0"},
    "serial": "S1",
    "parent": "pci:0000:3a:00.0",
    "keys": ["serial:S1"],
    "own": {"iommu_group": 7, "driver": "", "in_use_by": ["qemu 4711", "qemu 4712"], "vfio_in_use": True},
}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"device": "gpu-a", "view": VIEW},
            (
                "by=pci serial=S1 at=0000:3b:00.0 part_of=pci:0000:3a:00.0 iommu_group=7 driver=-"
                ' in_use_by="qemu 4711, qemu 4712" vfio_in_use=yes'
            ),
        ),
        ({"device": "gpu-a", "own": {"driver": None, "temperature": 41}}, 'own="driver -, temperature 41"'),
        (
            {"taint": {"rule": "hot", "effect": "NoSchedule", "evidence": "95 C", "alert": ""}},
            'taint="rule hot, effect NoSchedule, evidence 95 C"',
        ),
        (
            {"record": {"uses": [{"user": "vm", "place": "n1"}, {"user": "x"}]}},
            'record="uses ((user vm, place n1), user x)"',
        ),
        ({"why": "it was away", "instead": []}, 'why="it was away" instead=-'),
        ({"device": "gpu-a"}, ""),
    ],
)
def test_what_is_in_an_entry_is_told_in_words(data: dict[str, Any], expected: str) -> None:
    """Nothing of its form in the ledger: JSON has that."""
    assert expected == said({"claim": "", "data": data})


def test_an_entry_of_a_claim_begins_with_it() -> None:
    assert "claim=c-1 cause=granted" == said({"claim": "c-1", "data": {"claim": "c-1", "cause": "granted"}})
