"""The channel between the agent and a helper process: messages, framing, and both of its ends.

A frame is its length (4 bytes, big endian) and that many bytes of msgpack. The helper's end blocks; the agent's end
never does, and believes nothing: what is not a frame, or not a message, ends the helper and nothing else.
"""

import os
import socket
import threading
from collections.abc import Iterator
from enum import Enum, IntEnum
from typing import Any, Final

import msgspec

from schemas.errors import MalformedError
from schemas.verbosity import Level

MAX_FRAME_BYTES: Final = 8 << 20
"""A longer frame is taken for a broken helper."""
_READ_BYTES: Final = 64 << 10
"""At most so much is read from one helper before the others have their turn. For twice as much the allocator asks the
kernel for pages each time, and gives them back: that takes six times as long as reading what a collector yields."""
_MAX_UNSENT_BYTES: Final = 16 << 20


class Verb(IntEnum):
    """What a helper is asked to do with a collector."""

    LOAD = 0
    """Import the class, check its shape, and make the object."""
    START = 1
    COLLECT = 2
    DESCRIBE = 3
    STOP = 4


class ProblemKind(Enum):
    """What went wrong with a call, as far as it changes what the scheduler does next."""

    NO_DATA = "no_data"
    """Nothing of the kind is here: a fact."""
    STARTUP = "startup"
    """It cannot start; `retry` says whether trying again makes sense."""
    PARTIAL = "partial"
    """Some devices or values failed; the rest stands."""
    CONFIG = "config"
    """The configuration does not fit the collector."""
    IMPORT = "import"
    """The collector's module cannot be imported."""
    CONTRACT = "contract"
    """The class does not keep the contract."""
    MEMORY = "memory"
    """The helper ran out of the memory that it may use."""
    WATCH = "watch"
    """The watch ended by itself, or does not end when asked."""
    ERROR = "error"
    """It raised something else."""


class Problem(msgspec.Struct, array_like=True, frozen=True):
    """Why a call failed."""

    kind: ProblemKind
    name: str
    """The exception's class."""
    text: str
    retry: bool = True
    failed: int = 1
    """Values or devices that failed."""
    new_process: bool = False
    """Only a new helper can do better."""


class Facts(msgspec.Struct, array_like=True, frozen=True):
    """What is known of a collector once its class has been imported."""

    isolation: str
    """The word of the group that it shares a helper with; "" for a helper of its own."""
    describes: bool
    watches: bool


class Load(msgspec.Struct, array_like=True, tag=0):
    """Asks for `Verb.LOAD`."""

    call: int
    collector: str
    factory: str
    """`module:Class`."""
    config: dict[str, Any]
    subject: str
    root: str
    state_dir: str | None
    level: Level
    max_rows: int
    """Rows of one `collect` or `emit`, at most."""
    log_level: int


class Call(msgspec.Struct, array_like=True, tag=1):
    """Asks for one call of a loaded collector. The next is asked for after its `Done`."""

    call: int
    collector: str
    verb: Verb
    level: Level
    positions: dict[str, str] = {}
    """With START: the latest positions, by source."""


class Taken(msgspec.Struct, array_like=True, tag=2):
    """Answers `Part` and `Emitted`: the delivery was taken, the next may come."""

    call: int
    collector: str


class SetLevel(msgspec.Struct, array_like=True, tag=3):
    """Tells the level in force."""

    collector: str
    level: Level


class Forget(msgspec.Struct, array_like=True, tag=4):
    """Lets a stopped collector go."""

    collector: str


class Done(msgspec.Struct, array_like=True, tag=0):
    """Answers a `Load` or `Call`."""

    call: int
    collector: str
    began: float
    """When the call began, on the monotonic clock that the machine's processes share, seconds."""
    seconds: float
    """How long it took."""
    rows: int = 0
    """How many rows were yielded over all its deliveries."""
    faults: dict[str, int] = {}
    """Values and rows that were refused, by reason."""
    note: str = ""
    """What the first of them was."""
    problem: Problem | None = None
    facts: Facts | None = None
    """With LOAD."""
    delivery: bytes = b""
    """The last rows, an encoded `Delivery`; empty when there is none."""


class Part(msgspec.Struct, array_like=True, tag=1):
    """Rows of a `collect` that is not finished. `Taken` is awaited."""

    call: int
    collector: str
    delivery: bytes


class Emitted(msgspec.Struct, array_like=True, tag=2):
    """Rows of a `watch`; `call` is that of its START. `Taken` is awaited."""

    call: int
    collector: str
    rows: int
    faults: dict[str, int]
    note: str
    delivery: bytes
    """May be empty, when nothing that was emitted could be sent."""
    durable: bool = False
    """`Taken` is to come once these rows and all before them are on disk."""


class Ended(msgspec.Struct, array_like=True, tag=3):
    """The `watch` ended though nobody asked it to."""

    call: int
    collector: str
    problem: Problem


class Said(msgspec.Struct, array_like=True, tag=4):
    """A log line of a collector."""

    logger: str
    level: int
    text: str


Request = Load | Call | Taken | SetLevel | Forget
Reply = Done | Part | Emitted | Ended | Said

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_replies = msgspec.msgpack.Decoder(Reply)


def frame(message: Request | Reply) -> bytes:
    """Give a message as it travels."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


class ChannelClosedError(Exception):
    """The other side is gone."""


class HelperEnd:
    """The helper's end: blocks, one reader, any number of writers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def send(self, reply: Reply) -> None:
        """Send one message. Raises ChannelClosedError when nobody listens any more."""
        data = frame(reply)
        try:
            with self._lock:
                self._sock.sendall(data)
        except OSError as error:
            raise ChannelClosedError(str(error)) from None

    def requests(self) -> Iterator[Request]:
        """Give what the agent asks for, as it comes; end when the agent closes or is gone."""
        with self._sock.makefile("rb", buffering=64 << 10) as stream:
            while len(head := stream.read(4)) == 4:
                yield _requests.decode(stream.read(int.from_bytes(head, "big")))

    def close(self) -> None:
        """Close the descriptor at once: for a process that was forked off and has nothing to say here."""
        # socket.close() would wait for the reader's file object
        os.close(self._sock.detach())


class AgentEnd:
    """The agent's end: never blocks, and reads no more at a time than is fair to the other helpers."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._read = bytearray()
        self._unsent = bytearray()

    def fileno(self) -> int:
        """The descriptor, for a selector; -1 once closed."""
        return self._sock.fileno()

    @property
    def unsent(self) -> bool:
        """Whether something waits until the helper reads."""
        return bool(self._unsent)

    def send(self, request: Request) -> None:
        """Send, or keep until it can be sent. A helper that is gone is found out by reading, not here."""
        self._unsent += frame(request)
        if len(self._unsent) > _MAX_UNSENT_BYTES:  # it has not read for very long; its call will run out of time
            self._unsent.clear()
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the helper reads."""
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()

    def receive(self) -> list[Reply]:
        """Give the messages that have come whole.

        Raises ChannelClosedError when the helper is gone, MalformedError when it sends what is not a message.
        """
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ChannelClosedError(str(error)) from None
        if not data:
            raise ChannelClosedError("end of file")
        self._read += data
        return list(self._messages())

    def _messages(self) -> Iterator[Reply]:
        at = 0
        try:
            while len(self._read) - at >= 4:
                size = int.from_bytes(self._read[at : at + 4], "big")
                if size > MAX_FRAME_BYTES:
                    raise MalformedError(f"a frame of {size} bytes exceeds {MAX_FRAME_BYTES}")
                if len(self._read) - at - 4 < size:
                    break
                with memoryview(self._read) as view, view[at + 4 : at + 4 + size] as body:
                    reply = _replies.decode(body)
                at += 4 + size
                yield reply
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"not a message: {error}") from None
        finally:
            del self._read[:at]

    def close(self) -> None:
        """Close: the helper sees the end of its file and ends."""
        self._sock.close()
