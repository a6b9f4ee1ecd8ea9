"""Bad input, end to end: a typed error with a stable code, a counter, a quarantine to look at; the agent goes on."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from collectors.transport import Answer, TransportError
from schemas.batch import WIRE_VERSION, Batch, Block, Envelope
from schemas.codec import encode_batch, encode_body
from schemas.publish import CONTENT_TYPE, Result, Status, decode_answer, encode_request
from schemas.verbosity import Level, RowClass
from tests.acceptance.stage import stage, until
from tests.faults.rig import Bench, ask, config

SENDER = "rack7-relay"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Give a Muster that works all the while."""
    with stage(tmp_path_factory.mktemp("bad"), config(rate=1000)) as muster:
        found = Bench(muster)
        found.start("aggregator")
        found.start("agent")
        found.ready()
        yield found


@pytest.fixture(scope="module")
def token(bench: Bench) -> str:
    """Give a token that may speak for the sender alone."""
    return make_token(bench)


def make_token(bench: Bench, **more: object) -> str:
    """Make a token over the local socket, as an operator does."""
    body = msgspec.json.encode({"name": "test", "scopes": [f"ingest:{SENDER}"], **more})
    made = ask(bench.socket, "POST", "/v1/tokens", body, content_type="application/json")
    assert 201 == made.status, made.body
    return str(msgspec.json.decode(made.body)["secret"])


def envelope(first: int = 0, rows: int = 1, publisher: str = SENDER) -> Envelope:
    return Envelope(publisher, "epoch-1", RowClass.EVENT, Level.ESSENTIAL, first, rows, first)


def event(subject: str = SENDER) -> bytes:
    text: dict[str, list[str | None]] = {"type": ["test.bad"], "message": ["bad"], "detail": ["{}"]}
    return encode_body([Block("event", subject, [], [[""]], [0], 1_700_000_000_000_000_000, [0],
                              ints={"severity": [5]}, strings=text)])  # fmt: skip


def publish(bench: Bench, token: str, data: bytes) -> Answer:
    """Hand in bytes over the network."""
    return ask(bench.muster.address, "POST", "/v1/publish", data, token=token, content_type=CONTENT_TYPE)


def request(*batches: bytes, publisher: str = SENDER) -> bytes:
    return encode_request(publisher, "epoch-1", "boot", [], "relay", list(batches))


def results(answer: Answer) -> list[Result]:
    assert 200 == answer.status, answer.body
    return decode_answer(answer.body).results


def code(answer: Answer) -> tuple[int, object]:
    return answer.status, answer.problem()["code"]


def counter(bench: Bench, name: str) -> float:
    """Read one of Muster's own metrics."""
    text = ask(bench.socket, "GET", "/metrics").body.decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name}_total "))


def test_who_is_asking_is_checked_before_anything_else(bench: Bench, token: str) -> None:
    """No token, a wrong one, an expired one: 401; a publisher that the token is not for: 403 (R003)."""
    good = request(encode_batch(envelope(), event()))
    expired = make_token(bench, expires_seconds=0.2)
    assert 401 == publish(bench, "", good).status
    assert (401, "access.denied") == code(publish(bench, "mst_wrong", good))
    until("the token's end", lambda: publish(bench, expired, good).status == 401)
    foreign = request(encode_batch(envelope(publisher="other"), event()), publisher="other")
    assert (403, "access.denied") == code(publish(bench, token, foreign))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"garbage", (400, "wire.malformed")),
        (b"", (400, "wire.malformed")),
        (msgspec.msgpack.encode([99, "a", "b"]), (400, "wire.unknown_version")),
        (bytes(9 << 20), (413, "wire.too_large")),
    ],
    ids=["garbage", "empty", "unknown version", "oversized"],
)
def test_requests_that_cannot_be_read_are_refused_as_a_whole(
    bench: Bench, token: str, data: bytes, expected: tuple[int, str]
) -> None:
    """Malformed, of an unknown version (told what is understood), too large: a problem document with a stable code."""
    answer = publish(bench, token, data)
    assert expected == code(answer)
    if expected[1] == "wire.unknown_version":
        assert [WIRE_VERSION] == answer.problem()["understood"]


def test_batches_that_cannot_be_taken_are_quarantined_listed_and_counted(bench: Bench, token: str) -> None:
    """Each bad batch fails alone, with its code; its good neighbour is taken; the balance counts it (promise 8)."""
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(64 << 20))
    future = msgspec.msgpack.encode(msgspec.structs.replace(Batch(WIRE_VERSION, envelope(4), event()), wire=99))
    batches = {
        "wire.malformed": encode_batch(envelope(1), b"not zstd"),
        "wire.too_large": encode_batch(envelope(2), bomb),
        "access.foreign_subject": encode_batch(envelope(3), event("somebody-else")),
        "wire.unknown_version": future,
        "access.foreign_publisher": encode_batch(envelope(5, publisher="other"), event()),
    }
    before = counter(bench, "muster_ingest_quarantined_batches")
    data = request(encode_batch(envelope(0), event()), *batches.values())
    told = results(publish(bench, token, data))
    assert [Status.ACCEPTED, *[Status.QUARANTINED] * 5] == [one.status for one in told]
    assert list(batches) == [one.reason.partition(":")[0] for one in told[1:]]
    assert before + 5 == counter(bench, "muster_ingest_quarantined_batches")
    again = results(publish(bench, token, data))
    assert [one.status for one in told] == [one.status for one in again]

    listed = bench.muster.ask("quarantine", "list", "--publisher", SENDER)
    assert set(batches) == {entry["code"] for entry in listed}
    assert {2} == {entry["times"] for entry in listed}
    told_of = [one for one in until("its rows", lambda: lines(bench)) if one["row_class"] == "event"]
    assert {"store", "inventory"} == {line["consumer"] for line in told_of}
    assert {(1, 3, 0)} == {(line["done"], line["quarantined"], line["unaccounted"]) for line in told_of}


def lines(bench: Bench) -> list[dict[str, object]]:
    """Give the sender's lines of the balance once every consumer has its good row."""
    found: list[dict[str, object]] = bench.get("/v1/balance", publisher=SENDER)["lines"]
    return found if found and all(line["done"] for line in found) else []


@pytest.mark.parametrize("failpoint", ["quarantine.put.begun", "quarantine.put.kept"])
def test_aggregator_killed_while_it_sets_a_batch_aside_counts_it_once(tmp_path: Path, failpoint: str) -> None:
    """Without an answer the sender comes again; before or after the commit, one entry and its rows counted once."""
    with stage(tmp_path, config()) as muster:
        bench = Bench(muster)
        bench.start("aggregator")
        bench.ready()
        token = make_token(bench)
        assert Status.ACCEPTED == results(publish(bench, token, request(encode_batch(envelope(0), event()))))[0].status
        muster.stop("aggregator")
        bad = request(encode_batch(envelope(1, rows=3), b"not zstd"))
        bench.start("aggregator", failpoint)
        bench.ready()
        with pytest.raises(TransportError):
            publish(bench, token, bad)
        bench.dies("aggregator", failpoint)
        bench.start("aggregator")
        bench.ready()
        assert Status.QUARANTINED == results(publish(bench, token, bad))[0].status
        assert 1 == len(muster.ask("quarantine", "list"))
        told = bench.get("/v1/balance", publisher=SENDER)["lines"]
        assert {"store": 3, "inventory": 3} == {line["consumer"]: line["quarantined"] for line in told}


def test_agent_goes_on_beside_all_of_it(bench: Bench) -> None:
    """What others send harms nobody: the agent's rows go on, and its balance closes."""
    bench.grows()
    bench.quiesce().expect_exact()


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (("query", "orcale"), "oracle"),
        (("query", "oracle", "sequence_totl"), "sequence_total"),
    ],
)
def test_unknown_names_in_a_query_are_answered_with_near_ones(
    bench: Bench, arguments: tuple[str, ...], near: str
) -> None:
    """A typing mistake gets the name that was meant, and a failing exit status."""
    done = bench.muster.run(*arguments)
    assert 1 == done.returncode
    assert near in done.stderr


@pytest.mark.parametrize("command", [("validate",), ("up", "--quiet"), ("aggregator",), ("agent",)])
def test_bad_configuration_ends_with_78_place_and_near_name(tmp_path: Path, command: tuple[str, ...]) -> None:
    """File and line, what is wrong, and what was meant, from every program that reads it."""
    wrong = "[aggregator]\nlisten = '127.0.0.1:0'\nmax_request_byte = 1\n[agent]\nlevl = 'debug'\n"
    with stage(tmp_path, wrong) as muster:
        process = muster.start(*command)
        assert 78 == until("its end", process.poll)
        told = muster.log()
        key, near, number = (
            ("levl", "level", 5) if command[0] == "agent" else ("max_request_byte", "max_request_bytes", 3)
        )
        assert f"{muster.config}:{number}" in told
        assert key in told
        assert near in told.replace(key + "'", "")
