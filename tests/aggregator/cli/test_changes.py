"""Changes on a terminal: an aggregator that comes back is gone on with where it was."""

from collections.abc import Generator
from typing import Any

import pytest

from aggregator.cli import changes
from aggregator.cli.changes import follow
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
