"""The publisher: what goes first, what is kept, what is forgotten, and how long it waits after each kind of refusal.

Requirements: R001-9, R001-15 (a batch leaves the spool only when the log has it).
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from collectors.publisher import HEARTBEAT_SECONDS, LIMIT_AFTER, Publisher
from collectors.spool import NewBatch, Spool
from collectors.spool_epoch import Epoch, Stream
from collectors.transport import Answer, Backoff, TransportError
from schemas.batch import Batch
from schemas.codec import decode_batch
from schemas.errors import MalformedError
from schemas.intervals import Intervals
from schemas.publish import PublishRequest, Result, Status, decode_request, encode_answer
from schemas.verbosity import Level, RowClass

TAKEN = Result(Status.ACCEPTED)


def refusal(status: int, code: str, retry_after: str = "") -> Answer:
    headers = {"retry-after": retry_after} if retry_after else {}
    return Answer(status, headers, msgspec.json.encode({"code": code, "detail": "because"}))


class Aggregator:
    """What a request meets: the next of the answers that the test gave, else it takes everything."""

    def __init__(self) -> None:
        self.requests: list[PublishRequest] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[Callable[[PublishRequest], Answer]] = []
        self.closed = 0

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        assert ("POST", "/v1/publish") == (method, path)
        request = decode_request(body or b"")
        self.requests.append(request)
        self.headers.append(dict(headers or {}))
        if self.answers:
            return self.answers.pop(0)(request)
        return Answer(200, {}, encode_answer([TAKEN] * len(request.batches)))

    def close(self) -> None:
        self.closed += 1

    def next(self, *answers: Answer | Exception | list[Result]) -> None:
        """Say what the next requests meet: an answer, no answer, or these results."""

        def one(answer: Answer | Exception | list[Result]) -> Callable[[PublishRequest], Answer]:
            def give(_: PublishRequest) -> Answer:
                if isinstance(answer, Exception):
                    raise answer
                return Answer(200, {}, encode_answer(answer)) if isinstance(answer, list) else answer

            return give

        self.answers += [one(answer) for answer in answers]

    def batches(self, index: int = -1) -> list[Batch]:
        return [decode_batch(data) for data in self.requests[index].batches]

    def bodies(self, index: int = -1) -> list[bytes]:
        return [bytes(batch.body) for batch in self.batches(index) if batch.envelope.rows]


def restarted(rig: "Rig", times: int, gaps: int) -> list[str]:
    """Give the spool earlier runs, each with so many gaps in what it gave up."""
    names = [f"{number:016x}" for number in range(times)]
    for name in names:
        epoch = rig.spool._epochs[name] = Epoch(name, "boot")
        stream = epoch.streams[RowClass.TELEMETRY, Level.STANDARD] = Stream(numbered=gaps * 2)
        stream.dropped["spool_full"] = Intervals((at * 2, at * 2 + 1) for at in range(gaps))
    return names


class Rig:
    def __init__(self, folder: Path, ready: Callable[[], bool] = lambda: True) -> None:
        self.now = 1000.0
        self.token = "secret"
        self.aggregator = Aggregator()
        self.spool = Spool.open(folder / "spool.db", "node-1", "boot", synchronous="OFF")
        self.publisher = Publisher(
            self.spool,
            self.aggregator,
            token=lambda: self.token,
            host_name="a-host",
            documents=lambda: "the-hash",
            ready=ready,
            clock=lambda: self.now,
            backoff=Backoff(1.0, 30.0, seed=1),
        )

    def keep(self, *bodies: bytes, row_class: RowClass = RowClass.TELEMETRY, rows: int = 1) -> None:
        self.spool.commit([NewBatch(row_class, Level.STANDARD, rows, body) for body in bodies])

    def held(self) -> list[bytes | None]:
        return [self.spool.body(one) for one in self.spool.pending()]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.publisher.stop(0)
    rig.spool.close()


class TestOrder:
    def test_events_and_documents_go_first_then_newest_and_oldest_in_turn(self, rig: Rig) -> None:
        big = 300 << 10
        rig.keep(*(bytes([65 + number]) * big for number in range(6)))
        rig.keep(b"event", row_class=RowClass.EVENT)
        rig.keep(b"document", row_class=RowClass.CAPABILITY)
        sent = []
        while len(rig.spool):
            rig.publisher.send_once()
            sent.append([body[:1] if len(body) == big else body for body in rig.aggregator.bodies()])
        assert [b"event", b"document"] == [body for body in rig.aggregator.bodies(0) if len(body) < 9]
        assert {b"F", b"A"} < set(sent[0])  # the present is visible while the past arrives
        assert sorted([b"A", b"B", b"C", b"D", b"E", b"F", b"event", b"document"]) == sorted(
            body for request in sent for body in request
        )

    def test_within_a_request_batches_stand_in_the_order_of_their_commits(self, rig: Rig) -> None:
        rig.keep(*(b"%d" % number for number in range(9)))
        rig.publisher.send_once()
        assert [b"%d" % number for number in range(9)] == rig.aggregator.bodies()

    def test_a_request_has_at_most_a_mebibyte_but_always_one_batch(self, rig: Rig) -> None:
        half = 1 << 19
        rig.keep(b"x" * half, b"y" * half, b"z" * half, b"w" * (4 * half))
        for _ in range(3):
            rig.publisher.send_once()
        sizes = [[len(body) for body in rig.aggregator.bodies(at)] for at in range(3)]
        assert [[4 * half], [half, half], [half]] == sizes

    def test_the_envelope_says_what_was_committed(self, rig: Rig) -> None:
        rig.keep(b"a", b"b", rows=3)
        rig.publisher.send_once()
        [_, batch, _] = rig.aggregator.batches()
        envelope = batch.envelope
        assert ("node-1", rig.spool.epoch, 3, 3, 1) == (
            envelope.publisher, envelope.epoch, envelope.first, envelope.rows, envelope.order
        )  # fmt: skip
        assert 0 < envelope.age_ns < 60_000_000_000
        assert ("node-1", rig.spool.epoch, "boot", "a-host") == (
            rig.aggregator.requests[0].publisher,
            rig.aggregator.requests[0].epoch,
            rig.aggregator.requests[0].boot,
            rig.aggregator.requests[0].host_name,
        )

    def test_the_token_in_force_is_shown_and_none_where_there_is_none(self, rig: Rig) -> None:
        rig.publisher.send_once()
        rig.token = ""
        rig.keep(b"a")
        rig.publisher.send_once()
        assert "Bearer secret" == rig.aggregator.headers[0]["Authorization"]
        assert "Authorization" not in rig.aggregator.headers[1]


class TestBeforeTheToken:
    def test_nothing_is_sent_and_nothing_has_failed_until_it_is_there(self, tmp_path: Path) -> None:
        ready = [False]
        rig = Rig(tmp_path, ready=lambda: ready[0])
        rig.keep(b"one")
        assert rig.publisher.attempt() > 0.0
        assert ([], 0) == (rig.aggregator.requests, rig.publisher.status.failures)
        ready[0] = True
        rig.publisher.attempt()
        assert [] == rig.held()
        rig.publisher.stop(0)
        rig.spool.close()


class TestBatchesThatCannotBeRead:
    """By the disk, now: SQLite says `interrupted`, as it says `disk I/O error` where one fails."""

    def test_the_others_go_and_it_follows(self, rig: Rig) -> None:
        rig.keep(b"a", b"b")
        fails = iter([1])
        rig.spool._file.db.set_progress_handler(lambda: next(fails, 0), 1)
        rig.publisher.attempt()
        assert [b"b"] == rig.aggregator.bodies()
        rig.publisher.attempt()
        assert [b"a"] == rig.aggregator.bodies(1)
        assert not rig.spool.account().epochs[0].streams[0].dropped

    def test_where_there_are_no_others_it_is_told_and_tried_again_later(self, rig: Rig) -> None:
        rig.publisher.attempt()  # the first heartbeat is out
        rig.keep(b"a")
        rig.spool._file.db.set_progress_handler(lambda: 1, 1)
        assert rig.publisher.attempt() > 0
        assert "cannot be read" in rig.publisher.status.last_error
        assert rig.publisher.backing_off
        rig.spool._file.db.set_progress_handler(None, 1)
        rig.publisher.attempt()
        assert [b"a"] == rig.aggregator.bodies(1)


class TestResults:
    def test_what_was_accepted_or_quarantined_is_forgotten_and_what_is_to_be_retried_is_kept(self, rig: Rig) -> None:
        rig.keep(b"a", b"b", b"c")
        quarantined, later = Result(Status.QUARANTINED, "wire.malformed: x"), Result(Status.RETRY, "log.full: x")
        rig.aggregator.next([TAKEN, later, quarantined, TAKEN])
        assert rig.publisher.send_once() > 0
        assert [b"b"] == rig.held()
        assert 1 == rig.publisher.status.quarantined_batches
        assert "log.full: x" == rig.publisher.status.last_error

    def test_what_was_not_reached_follows_at_once_and_fewer_at_a_time(self, rig: Rig) -> None:
        """Logs of a storm open to a thousand times their size: with a pause for each request they would never drain."""
        rig.keep(*(bytes([65 + number]) * 100 for number in range(9)))
        not_reached = Result(Status.RETRY, "ingest.busy: not reached")
        rig.aggregator.next([TAKEN] * 3 + [not_reached] * 7)
        assert rig.publisher.send_once() == 0
        assert 6 == len(rig.spool)
        assert ("", False) == (rig.publisher.status.last_error, rig.publisher.backing_off)
        while len(rig.spool):
            rig.publisher.send_once()
        assert [9, 3, 3] == [len(rig.aggregator.bodies(number)) for number in range(3)]
        assert rig.aggregator.batches(1)[-1].envelope.account is not None

    def test_a_heartbeat_that_is_not_reached_is_not_sent_without_a_pause(self, rig: Rig) -> None:
        rig.aggregator.next([Result(Status.RETRY, "ingest.busy: not reached")])
        assert rig.publisher.send_once() > 0
        assert rig.publisher.backing_off

    def test_without_an_answer_everything_is_kept(self, rig: Rig) -> None:
        rig.keep(b"a")
        rig.aggregator.next(TransportError("gone"))
        with pytest.raises(TransportError):
            rig.publisher.send_once()
        assert [b"a"] == rig.held()

    @pytest.mark.parametrize("results", [[], [TAKEN], [TAKEN] * 3])
    def test_an_answer_that_does_not_fit_forgets_nothing_and_is_a_failure(
        self, rig: Rig, results: list[Result]
    ) -> None:
        """Else an empty answer would be asked for again without a pause."""
        rig.keep(b"a")
        rig.aggregator.next(results)
        with pytest.raises(MalformedError):
            rig.publisher.send_once()
        assert [b"a"] == rig.held()
        rig.aggregator.next(results)
        assert rig.publisher.attempt() > 0

    def test_an_answer_that_is_no_message_is_a_failure(self, rig: Rig) -> None:
        rig.keep(b"a")
        rig.aggregator.next(Answer(200, {}, b"<html>"))
        assert rig.publisher.attempt() > 0
        assert [b"a"] == rig.held()

    def test_what_went_well_is_counted(self, rig: Rig) -> None:
        rig.keep(b"a", b"b", rows=5)
        rig.publisher.send_once()
        status = rig.publisher.status
        assert (2, 10, 0, "") == (status.sent_batches, status.sent_rows, status.failures, status.last_error)
        assert status.last_success_ns > 0


class TestWord:
    """The account of its own rows, and the heartbeat that carries it."""

    def test_a_heartbeat_with_account_and_hash_of_the_documents_goes_at_once_and_every_ten_seconds(
        self, rig: Rig
    ) -> None:
        assert HEARTBEAT_SECONDS == rig.publisher.send_once()  # nothing is left to be sent before the next one
        assert HEARTBEAT_SECONDS == rig.publisher.send_once()
        rig.now += 9.9
        assert pytest.approx(0.1) == rig.publisher.send_once()
        assert 1 == len(rig.aggregator.requests)
        rig.now += 0.1
        assert HEARTBEAT_SECONDS == rig.publisher.send_once()
        for at in (0, 1):
            [batch] = rig.aggregator.batches(at)
            assert (0, b"", "the-hash") == (batch.envelope.rows, bytes(batch.body), batch.envelope.documents)
            assert batch.envelope.account is not None

    def test_while_documents_are_on_their_way_nobody_is_asked_to_compare_them(self, rig: Rig) -> None:
        rig.keep(b"document", row_class=RowClass.CAPABILITY)
        rig.publisher.send_once()
        rig.now += HEARTBEAT_SECONDS
        rig.publisher.send_once()
        told = [one.envelope.documents for at in (0, 1) for one in rig.aggregator.batches(at) if not one.envelope.rows]
        assert ["", "the-hash"] == told

    def test_a_busy_publisher_sends_its_account_along_once_a_second(self, rig: Rig) -> None:
        told = []
        for _ in range(10):
            rig.keep(b"a")
            rig.publisher.send_once()
            told.append(any(batch.envelope.account for batch in rig.aggregator.batches()))
            rig.now += 0.25
        assert [True, False, False, False] * 2 + [True, False] == told

    def test_a_heartbeat_that_was_not_taken_is_due_still(self, rig: Rig) -> None:
        rig.aggregator.next([Result(Status.RETRY, "busy: x")])
        rig.publisher.send_once()
        rig.publisher.send_once()
        assert 2 == len(rig.aggregator.requests)

    def test_what_was_dropped_is_repeated_until_a_word_that_told_it_was_accepted(self, rig: Rig) -> None:
        rig.keep(b"a", b"b")
        rig.spool.drop([rig.spool.pending()[0].id], "spool_full")
        told = []
        for answer in (TransportError("gone"), refusal(503, "busy"), [TAKEN, Result(Status.RETRY, "x: y")], None, None):
            if answer is not None:
                rig.aggregator.next(answer)
            rig.publisher.attempt()
            account = rig.aggregator.batches()[-1].envelope.account
            assert account is not None
            told.append([one.intervals for stream in account.epochs[0].streams for one in stream.dropped])
            rig.now += HEARTBEAT_SECONDS
        assert [[[(0, 1)]]] * 4 + [[]] == told

    def test_epochs_before_are_named_until_they_are_settled(self, tmp_path: Path) -> None:
        first = Rig(tmp_path)
        first.keep(b"a")
        first.spool.close()
        second = Rig(tmp_path)
        for _ in range(3):
            second.publisher.send_once()
            second.now += HEARTBEAT_SECONDS
        named = [request.predecessors for request in second.aggregator.requests]
        assert [first.spool.epoch] == named[0]
        assert [] == named[-1]
        assert first.spool.epoch == second.aggregator.batches(0)[0].envelope.epoch
        second.spool.close()


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "code"),
        [(401, "access.denied"), (403, "access.denied"), (409, "node.other_run"), (429, "busy"), (503, "busy")],
    )
    def test_a_refused_request_is_kept_and_tried_again_later(self, rig: Rig, status: int, code: str) -> None:
        rig.keep(b"a")
        rig.aggregator.next(refusal(status, code))
        assert 0.5 <= rig.publisher.send_once() <= 1.0
        assert rig.publisher.backing_off
        assert f"{code}: because" == rig.publisher.status.last_error
        assert [b"a"] == rig.held()
        assert HEARTBEAT_SECONDS == rig.publisher.send_once()
        assert not rig.publisher.backing_off
        assert [] == rig.held()

    def test_the_pause_doubles_up_to_half_a_minute(self, rig: Rig) -> None:
        rig.keep(b"a")
        waits = []
        for _ in range(9):
            rig.aggregator.next(refusal(503, "busy"))
            waits.append(rig.publisher.send_once())
        for wait, limit in zip(waits, (1, 2, 4, 8, 16, 30, 30, 30, 30), strict=True):
            assert limit / 2 <= wait <= limit

    def test_retry_after_is_the_least_to_wait_but_five_minutes_at_most(self, rig: Rig) -> None:
        rig.keep(b"a")
        rig.aggregator.next(refusal(429, "busy", "20"))
        assert 20 <= rig.publisher.send_once() <= 21
        rig.aggregator.next(refusal(503, "busy", "86400"))
        assert 300 <= rig.publisher.send_once() <= 301
        rig.aggregator.next(refusal(503, "busy", "Wed, 21 Oct 2026 07:28:00 GMT"))
        assert rig.publisher.send_once() <= 4

    def test_a_refusal_that_is_no_problem_document_is_told_by_its_status(self, rig: Rig) -> None:
        rig.keep(b"a")
        rig.aggregator.next(Answer(502, {}, b"<html>bad gateway"))
        rig.publisher.send_once()
        assert "http.502: <html>bad gateway" == rig.publisher.status.last_error

    def test_a_request_that_is_too_large_is_sent_in_smaller_ones(self, rig: Rig) -> None:
        """An aggregator may take less than we send: what it takes is found, and nothing is stuck."""
        rig.keep(*(bytes([65 + number]) * (100 << 10) for number in range(8)))
        limit = 250 << 10

        def judge(request: PublishRequest) -> Answer:
            if sum(map(len, request.batches)) > limit:
                return refusal(413, "request.too_large")
            return Answer(200, {}, encode_answer([TAKEN] * len(request.batches)))

        rig.aggregator.answers = [judge] * 40
        for _ in range(20):
            if not len(rig.spool):
                break
            rig.publisher.send_once()
            assert not rig.publisher.backing_off
        assert [] == rig.held()
        assert 8 == rig.publisher.status.sent_batches

    def test_a_batch_that_is_too_large_by_itself_is_given_up_and_counted(self, rig: Rig) -> None:
        rig.keep(b"a", rows=7)
        rig.aggregator.next(refusal(413, "request.too_large"))
        rig.publisher.send_once()
        assert [] == rig.held()
        rig.now += HEARTBEAT_SECONDS
        rig.publisher.send_once()
        account = rig.aggregator.batches()[-1].envelope.account
        assert account is not None
        [stream] = account.epochs[0].streams
        assert [("refused", [(0, 7)])] == [(one.reason, one.intervals) for one in stream.dropped]

    def test_after_many_requests_that_were_taken_more_is_sent_at_once_again(self, rig: Rig) -> None:
        """A 413 of a proxy that is gone since does not make every later request small."""
        bodies = [bytes([65 + number]) * (100 << 10) for number in range(8)]
        rig.keep(*bodies)
        rig.aggregator.next(refusal(413, "request.too_large"))
        rig.publisher.send_once()
        rig.publisher.send_once()
        assert 4 == len(rig.aggregator.bodies())
        for _ in range(LIMIT_AFTER):
            rig.keep(b"a")
            rig.publisher.send_once()
        rig.keep(*bodies)
        rig.publisher.send_once()
        assert 8 == len(rig.aggregator.bodies())

    def test_an_account_that_is_too_large_leaves_old_epochs_out_until_newer_ones_are_settled(self, rig: Rig) -> None:
        """Each word that is heard lets the epochs it told be forgotten: in the end every one was told."""
        names = restarted(rig, 20, gaps=3000)
        limit = 150_000

        def judge(request: PublishRequest) -> Answer:
            if sum(map(len, request.batches)) > limit:
                return refusal(413, "request.too_large")
            return Answer(200, {}, encode_answer([TAKEN] * len(request.batches)))

        rig.aggregator.answers = [judge] * 200
        told: set[str] = set()
        for _ in range(100):
            rig.now += HEARTBEAT_SECONDS
            assert rig.publisher.send_once() <= HEARTBEAT_SECONDS
            assert "" == rig.publisher.status.last_error
            account = rig.aggregator.batches()[-1].envelope.account
            if account is not None and sum(map(len, rig.aggregator.requests[-1].batches)) <= limit:
                assert rig.spool.epoch == account.epochs[0].epoch
                told |= {epoch.epoch for epoch in account.epochs}
            if not rig.spool.predecessors():
                break
        assert [] == rig.spool.predecessors()
        assert set(names) < told

    def test_an_account_that_cannot_travel_at_all_does_not_hold_rows_back(self, rig: Rig) -> None:
        """One epoch with more gaps than a batch can tell: its rows and the heartbeat go without it."""
        rig.keep(b"a")
        stream = rig.spool._epochs[rig.spool.epoch].streams[RowClass.TELEMETRY, Level.STANDARD]
        stream.dropped["spool_full"] = Intervals((1 << 40 | at * 2, (1 << 40 | at * 2) + 1) for at in range(300_000))
        rig.publisher.send_once()
        assert [b"a"] == rig.aggregator.bodies()
        assert [] == rig.held()
        assert rig.aggregator.batches()[-1].envelope.account is None

    def test_a_batch_that_cannot_travel_harms_only_itself(self, rig: Rig) -> None:
        rig.keep(b"a", b"x" * (5 << 20), b"c")
        for _ in range(3):
            rig.publisher.send_once()
        assert [b"a", b"c"] == rig.aggregator.bodies(0)
        assert [] == rig.held()


class TestThread:
    def test_what_comes_while_it_backs_off_does_not_cut_that_short(self, rig: Rig) -> None:
        rig.keep(b"a")
        rig.aggregator.next(refusal(503, "busy", "60"))
        rig.publisher.start()
        _until(lambda: rig.publisher.status.failures == 1)
        for _ in range(5):
            rig.publisher.wake()
            time.sleep(0.02)
        assert 1 == len(rig.aggregator.requests)

    def test_what_comes_is_sent_when_it_is_told_of_it(self, rig: Rig) -> None:
        rig.publisher.start()
        _until(lambda: len(rig.aggregator.requests) == 1)
        rig.keep(b"a")
        rig.publisher.wake()
        _until(lambda: not len(rig.spool))

    def test_a_stop_sends_what_is_there_and_closes(self, rig: Rig) -> None:
        rig.publisher.start()
        _until(lambda: len(rig.aggregator.requests) == 1)
        rig.keep(*(b"x" * (900 << 10) for _ in range(5)))
        rig.publisher.stop(5)
        rig.publisher.stop(5)
        assert [] == rig.held()
        assert rig.aggregator.closed

    def test_a_stop_does_not_wait_for_an_aggregator_that_is_away(self, rig: Rig) -> None:
        rig.keep(b"a")
        rig.aggregator.next(*[TransportError("away")] * 9)
        rig.publisher.start()
        _until(lambda: rig.publisher.status.failures == 1)
        began = time.monotonic()
        rig.publisher.stop(30)
        assert time.monotonic() - began < 2
        assert [b"a"] == rig.held()


def _until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
