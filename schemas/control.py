"""The control channel: what the aggregator tells a node, and what the node answers. Typed, versioned, acknowledged.

`POST /v1/control`, a long poll, body and answer msgpack. The agent asks and is kept waiting until there is something to
tell or the time is up; it acts, asks again, and acknowledges in that request what it was told. Every message has an
id: one that comes twice (an answer was lost) is acted on once and acknowledged twice. Messages carry levels, times and
a new token of the node's own; never commands or paths.

A request fails with problem details (RFC 9457) as JSON: 401 and 403 (who are you), 409 with Retry-After (another run of
this publisher is current), 413, 503 with Retry-After. What the agent does not hear about stays as it is: grants expire
on its own monotonic clock, whatever becomes of the aggregator.
"""

from typing import Any, Final, TypeVar

import msgspec

from schemas.batch import WIRE_VERSION
from schemas.claims import Checkpoint, ClaimReport, ClaimStep
from schemas.codec import check_version
from schemas.errors import MalformedError, TooLargeError
from schemas.verbosity import Level, RowClass

T = TypeVar("T")
MAX_CONTROL_BYTES: Final = 1 << 20
"""A request's or an answer's largest size."""
MAX_LIST: Final = 1024
"""Acknowledgements, predecessors, collectors or messages of one request or answer."""
MAX_WAIT_S: Final = 25.0
"""The longest that an agent can ask to be kept waiting: below the 30 s after which proxies commonly give up."""
CONTENT_TYPE: Final = "application/vnd.muster.control+msgpack"


# --- what the aggregator tells ------------------------------------------------------------------------------------


class Grant(msgspec.Struct, array_like=True, frozen=True):
    """One verbosity grant as it applies to this node."""

    id: str
    level: Level
    collector: str
    """The collector that it is for; "" for all."""
    row_class: RowClass | None
    """The class that it is for; None for all."""
    seconds: float
    """How much longer it lasts, as of sending: the agent counts down by its monotonic clock."""


class SetGrants(msgspec.Struct, array_like=True, frozen=True, tag="grants"):
    """All live grants of this node; those that it had and that are not among these end."""

    id: str
    revision: int
    """Grows with every change of the fleet's grants."""
    grants: list[Grant]


class Watch(msgspec.Struct, array_like=True, frozen=True, tag="watch"):
    """Somebody looks at this node: flush within a second, for so long."""

    id: str
    seconds: float


class ResendDocuments(msgspec.Struct, array_like=True, frozen=True, tag="documents"):
    """Send the whole set of capability documents again: what the aggregator has does not have the hash of yours."""

    id: str


class SetWork(msgspec.Struct, array_like=True, frozen=True, tag="work"):
    """Everything that claims ask of this node now; what it had and is not among this is over."""

    id: str
    steps: list[ClaimStep]


class TokenRotated(msgspec.Struct, array_like=True, frozen=True, tag="token"):
    """A new token for this node. Keep it on disk before you acknowledge; the one before is good for `grace` seconds."""

    id: str
    token: str
    grace: float

    def __repr__(self) -> str:
        return f"TokenRotated(id={self.id!r}, token='...', grace={self.grace!r})"


Message = SetGrants | Watch | ResendDocuments | SetWork | TokenRotated


class ControlAnswer(msgspec.Struct, array_like=True, frozen=True):
    """What there is to tell; nothing, when the time was up. Ask again at once, in either case."""

    wire: int
    messages: list[Message]


# --- what the node says -------------------------------------------------------------------------------------------


class Ack(msgspec.Struct, array_like=True, frozen=True):
    """A message that was acted on; `problem` says why it could not be (it is not sent again)."""

    id: str
    problem: str = ""


class CollectorReport(msgspec.Struct, array_like=True, frozen=True):
    """How one collector is, for `muster collectors`. New fields come last, with a default."""

    name: str
    state: str
    """`starting`, `running`, `backing_off`, `no_data`, `unsupported`, `misconfigured`, `unavailable`, `disabled` or
    `stopped`."""
    runs: int = 0
    """Calls of `collect` that came back since the agent started."""
    rows: int = 0
    """Rows that it yielded since the agent started, filtered ones included."""
    errors: int = 0
    """Failures of every kind since the agent started."""
    last_error: str = ""
    """ "" when there was none."""
    last_seconds: float | None = None
    """How long the last `collect` took; None before the first."""
    success_age: float | None = None
    """Seconds since the last `collect` that went well, as of sending; None before the first."""
    error_age: float | None = None
    """Seconds since the last failure, as of sending; None when there was none."""
    next_try: float | None = None
    """Seconds until it runs next, as of sending; None when nothing is planned."""
    slip_p99: float | None = None
    """How late `collect` begins, the 99th percentile of the last runs, in seconds; None before any."""
    left_helpers: int = 0
    """Helper processes of its that not even SIGKILL could end."""
    crashes: int = 0
    """Helper processes that it ended, or that had to be ended on its account, since the agent started."""


class Machine(msgspec.Struct, array_like=True, frozen=True):
    """What the node is; sent with the first request of a run and when it changes."""

    host_name: str
    agent_version: str
    facts: dict[str, Any]
    """Model, serial, kernel, CPUs, memory: for people and filters. At most 64 KiB as JSON."""


class ControlRequest(msgspec.Struct, array_like=True, frozen=True):
    """What an agent asks with."""

    wire: int
    publisher: str
    epoch: str
    boot: str
    predecessors: list[str]
    acks: list[Ack] = []
    wait: float = MAX_WAIT_S
    """Seconds that it is willing to be kept waiting; 0 for an answer at once."""
    machine: Machine | None = None
    collectors: list[CollectorReport] | None = None
    """All of them, when there is something new to say; None when not."""
    leaving: bool = False
    """The run ends now, in order, and will not speak again: whoever comes next need not wait until it is silent."""
    claims: list[ClaimReport] | None = None
    """What became of the steps of its work, while they are still among it; None when there is nothing new to say."""
    checkpoint: Checkpoint | None = None
    """With the first request of a run: what it keeps of claims."""


_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(ControlRequest)
_answer_decoder = msgspec.msgpack.Decoder(ControlAnswer)


def encode_request(request: ControlRequest) -> bytes:
    """Give the body of a request."""
    return _encoder.encode(request)


def decode_request(data: bytes) -> ControlRequest:
    """Read a request. Raises a WireError, nothing else."""
    request = _decode(_request_decoder, data)
    names = (request.publisher, request.epoch, request.boot, *request.predecessors, *(ack.id for ack in request.acks))
    if not request.publisher or not request.epoch or any(len(name) > 255 for name in names):
        raise MalformedError("the request names no publisher or no epoch, or a name is longer than 255")
    kept = request.checkpoint.claims if request.checkpoint else []
    lists = (request.predecessors, request.acks, request.collectors or [], request.claims or [], kept)
    if max(len(one) for one in lists) > MAX_LIST:
        raise TooLargeError(f"a list of the request has more than {MAX_LIST} entries")
    if not 0 <= request.wait < float("inf"):
        raise MalformedError("the time to wait is not one")
    return request


def encode_answer(messages: list[Message]) -> bytes:
    """Give the body of an answer."""
    return _encoder.encode(ControlAnswer(WIRE_VERSION, messages))


def decode_answer(data: bytes) -> ControlAnswer:
    """Read an answer. Raises a WireError, nothing else."""
    return _decode(_answer_decoder, data)


def _decode(decoder: "msgspec.msgpack.Decoder[T]", data: bytes) -> T:
    if len(data) > MAX_CONTROL_BYTES:
        raise TooLargeError(f"a control message of {len(data)} bytes exceeds {MAX_CONTROL_BYTES}")
    check_version(data)
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"not a control message: {error}") from None
