"""Outside, classes and levels are words: in answers, in filters and in the description of the API."""

import typing
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from starlette.types import Message

from aggregator.app import make_app
from aggregator.quarantine import Entry
from aggregator.query import FieldInfo, MeasurementInfo
from aggregator.routes.words import ClassWord, LevelWord, gives, worded
from aggregator.store import Stream
from schemas.metrics import Kind, ValueType
from schemas.verbosity import Level, RowClass

_STREAM = Stream("n1", "e1", RowClass.LOG, Level.DETAILED)
_ENTRY = Entry(7, "n1", _STREAM, 0, 5, "ingest", "c", "c: x", 3, 3, 1, 1, 2, b"abc")
_FIELDS = [
    FieldInfo("usage_ratio", ValueType.FLOAT, Kind.GAUGE, "ratio", Level.STANDARD, "Busy.", declared=True),
    FieldInfo("irq_ratio", ValueType.FLOAT, Kind.GAUGE, "ratio", Level.DEBUG),
    FieldInfo("guessed", ValueType.INT, Kind.GAUGE),
]


class Control:
    """Gives one entry, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    async def read(self, question: partial[Any]) -> Any:
        """See `control.Control`."""
        self.asked = question.keywords
        return _ENTRY if "id" in question.keywords else [_ENTRY]


async def _describe(_: str = "") -> list[MeasurementInfo]:
    return [MeasurementInfo("cpu", RowClass.TELEMETRY, _FIELDS, ["cpu"], 1, 2),
            MeasurementInfo("log", RowClass.LOG, [], [], 1, 2)]  # fmt: skip


class Api:
    """The application, asked over the local socket."""

    def __init__(self) -> None:
        self.control = Control()
        self.app = make_app(SimpleNamespace(control=self.control, describe=_describe))  # type: ignore[arg-type]

    async def get(self, path: str, query: str = "") -> tuple[int, Any]:
        """Ask; give status and decoded answer."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            sent.append(message)

        scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http"}
        scope |= {"path": path, "root_path": "", "query_string": query.encode(), "headers": []}
        scope |= {"server": ("/run/muster.sock", None), "client": None}
        await self.app(scope, receive, send)
        return sent[0]["status"], msgspec.json.decode(b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture
def api() -> Api:
    return Api()


def test_the_words_of_filters_are_those_of_the_enumerations() -> None:
    assert [level.word for level in Level] == list(typing.get_args(LevelWord))
    assert [one.word for one in RowClass] == list(typing.get_args(ClassWord))


def test_defaults_that_the_type_leaves_out_stay_out() -> None:
    assert {"name": "guessed", "type": "int", "kind": "gauge"} == msgspec.to_builtins(worded(_FIELDS[2]))
    assert "standard" == worded(_FIELDS[0])["level"]


async def test_quarantined_batches_are_told_in_words(api: Api) -> None:
    expected = {"publisher": "n1", "epoch": "e1", "row_class": "log", "level": "detailed"}
    assert expected == (await api.get("/v1/quarantine"))[1][0]["stream"]
    _, one = await api.get("/v1/quarantine/7")
    assert (expected, "YWJj") == (one["stream"], one["body"])


async def test_quarantine_is_filtered_by_words_alone(api: Api) -> None:
    assert 200 == (await api.get("/v1/quarantine", "class=event&level=essential"))[0]
    assert (RowClass.EVENT, Level.ESSENTIAL) == (api.control.asked["row_class"], api.control.asked["level"])
    status, refused = await api.get("/v1/quarantine", "level=2")
    assert 400 == status
    assert "level: Input should be 'essential', 'standard', 'detailed' or 'debug'" == refused["detail"]


async def test_measurements_are_told_and_filtered_in_words(api: Api) -> None:
    found = (await api.get("/v1/measurements"))[1]
    assert [("cpu", "telemetry"), ("log", "log")] == [(one["name"], one["row_class"]) for one in found]
    assert ["standard", "debug", None] == [field.get("level") for field in found[0]["fields"]]
    assert ["log"] == [one["name"] for one in (await api.get("/v1/measurements", "class=log"))[1]]
    least = (await api.get("/v1/measurements", "level=standard"))[1][0]["fields"]
    assert ["usage_ratio", "guessed"] == [field["name"] for field in least]


def test_the_description_has_the_words_and_no_number_for_one(api: Api) -> None:
    document = api.app.openapi()
    stream = gives(Entry)["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["stream"]
    assert [level.word for level in Level] in [one["enum"] for one in _enumerations(stream)]
    described = document["paths"]["/v1/measurements"]["get"]
    assert {tuple(one["enum"]) for one in _enumerations(described)} >= {
        tuple(level.word for level in Level), tuple(one.word for one in RowClass)}  # fmt: skip
    numbers = [one for one in _enumerations(document) if any(isinstance(word, int) for word in one["enum"])]
    assert not numbers
    assert "#/$defs/" not in msgspec.json.encode(document).decode()


def _enumerations(schema: Any) -> Iterator[dict[str, Any]]:
    """Give every part of a schema that lists its values."""
    if isinstance(schema, dict):
        if isinstance(schema.get("enum"), list):
            yield schema
        for inner in schema.values():
            yield from _enumerations(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _enumerations(inner)
