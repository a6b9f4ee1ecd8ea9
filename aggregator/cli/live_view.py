"""What `muster up` shows in a terminal: its children, and this machine live. Never holds the supervisor up.

`update` only takes note. Asking the aggregator and writing to the terminal may both take long (a busy store, a
terminal that was paused), so each has a thread of its own.
"""

import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
from rich.text import Text

from aggregator.cli.client import Client
from aggregator.cli.cores import Cores
from aggregator.cli.drawing import LABEL, TITLE, Glyphs, between, fit, glyphs_for
from aggregator.cli.frame_node import balance_line, node_body, node_head
from aggregator.cli.screen import Screen
from aggregator.cli.watching import Follower, NodeLook, NodeWatch, hold_fresh
from aggregator.cli.words import age
from aggregator.up import ChildStatus
from collectors.config import socket_path
from collectors.node_identity import FILE as IDENTITY_FILE

DRAW_SECONDS: Final = 1.0
"""Between two frames; a child that starts or ends is drawn at once."""
_STEP_SECONDS: Final = 0.1
_LEAVE_SECONDS: Final = 2.0
"""How long leaving waits for a thread that asks or draws."""


class LiveView:
    """The view; has the terminal for the length of a `with`."""

    def __init__(self, data_dir: Path, listen: str) -> None:
        """`data_dir` is where the socket and the node's id appear; `listen` is the address to show."""
        self._data_dir = data_dir
        self._listen = listen
        self._statuses: list[ChildStatus] = []
        self._screen = Screen()
        self._glyphs = glyphs_for(sys.stdout.encoding)
        self._follower: Follower | None = None
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._draw, name="draw", daemon=True),
            threading.Thread(target=self._follow, name="follow", daemon=True),
        ]

    def __enter__(self) -> Self:
        """Take the terminal, and begin to draw."""
        self._screen.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back, and leave a short summary on it."""
        self._ended.set()
        if self._follower is not None:
            self._follower.stop()
        for thread in self._threads:
            thread.join(_LEAVE_SECONDS)
        self._screen.__exit__(kind, error, trace)
        sys.stdout.write("\n".join(self.summary()) + "\n")
        sys.stdout.flush()

    def update(self, statuses: list[ChildStatus]) -> None:
        """Take note of how the children are. Returns at once."""
        self._statuses = [msgspec.structs.replace(status) for status in statuses]

    def summary(self) -> list[str]:
        """Give what is left to say when the view has gone."""
        look = self._look()
        lines = [f"muster up ran for {age(time.monotonic() - self._begun)}"]
        if look is not None:
            sums = look.sums
            lines[0] += f"; {sums.done:,} of {sums.numbered:,} rows stored, {sums.unaccounted:,} unaccounted"
        again = [status for status in self._statuses if status.starts > 1]
        lines += [f"the {one.name} was started {one.starts} times; it last ended by {one.last_exit}" for one in again]
        return [*lines, f"data and logs are in {self._data_dir}; stopping ..."]

    def frame(self, width: int, height: int) -> list[Text]:
        """Draw it all, as of now."""
        look, clock = self._look(), time.strftime("%H:%M:%S")
        trouble = self._follower.trouble if self._follower is not None else ""
        if look is None:
            head = [between(Text("muster up", TITLE), Text(clock, LABEL), width), self._children(width)]
            return [*head, Text(), *(fit(line, width) for line in self._waiting(trouble))]
        head = [node_head(look, width, clock, "muster up"), self._children(width), balance_line(look.sums, width)]
        if trouble:
            head.append(fit(Text(f"not now: {trouble}", "bold red"), width))
        return [*head, *node_body(look, width, height - len(head), self._glyphs)]

    def _look(self) -> NodeLook | None:
        look = self._follower.look if self._follower is not None else None
        return look if isinstance(look, NodeLook) else None

    def _children(self, width: int) -> Text:
        left = Text()
        for status in self._statuses:
            left += _child(status, self._glyphs)
        look = self._look()
        if look is not None and look.nodes_live > 1:
            left.append(f"{look.nodes_live:,} nodes  ", LABEL)
        right = Text(f"http://{self._listen}  ") + Text("Ctrl-C ends", LABEL)
        # a child in trouble has more to say than the address
        return between(left, right, width) if left.cell_len + right.cell_len < width else fit(left, width)

    def _waiting(self, trouble: str) -> list[Text]:
        """Say what has still to happen before there is something to see."""
        address = socket_path(self._data_dir)
        steps = (
            ("the aggregator to open its store and listen", address.exists()),
            ("the agent to decide who this node is", bool(self._node())),
            ("the first rows to be collected, published and stored", False),
        )
        lines = [Text("waiting for", LABEL)]
        for step, done in steps:
            lines.append(Text("  done  " if done else "   ...  ", "green" if done else "yellow") + Text(step))
        if trouble and address.exists():
            lines += [Text(), Text(trouble, "yellow")]
        if any(status.last_exit for status in self._statuses):
            lines += [Text(), Text(f"a child ended; its log is in {self._data_dir / 'logs'}", "red")]
        return lines

    def _node(self) -> str:
        """Give the id of this node; "" while the agent has not decided it."""
        try:
            kept = msgspec.json.decode((self._data_dir / "agent" / IDENTITY_FILE).read_bytes())
        except (OSError, msgspec.MsgspecError):
            return ""
        return str(kept.get("id", "")) if isinstance(kept, dict) else ""

    def _follow(self) -> None:
        """Wait for the address and the node, then follow it, every core included."""
        while not (socket_path(self._data_dir).exists() and self._node()):
            if self._ended.wait(_STEP_SECONDS):
                return
        node, address = self._node(), f"unix://{socket_path(self._data_dir)}"
        self._follower = Follower(NodeWatch(Client(address), node, whole_balance=True), DRAW_SECONDS)
        self._follower.start()
        hold_fresh(Client(address), node)
        cores = Cores(Client(address), node, reason="muster up shows each core")
        while not self._ended.wait(1.0):
            look = self._look()
            if look is not None and look.series:
                cores.keep()
        cores.end()

    def _draw(self) -> None:
        drawn, shown, seen = 0.0, "", False
        while not self._ended.is_set():
            now, children = time.monotonic(), repr(self._statuses)
            first_look = not seen and self._look() is not None
            if now - drawn >= DRAW_SECONDS or children != shown or first_look:
                width, height = self._screen.size()
                self._screen.draw(self.frame(width, height))
                drawn, shown, seen = now, children, seen or first_look
            self._screen.key(_STEP_SECONDS)  # keys are taken and mean nothing: they must not reach the shell


def _child(status: ChildStatus, glyphs: Glyphs) -> Text:
    running = status.pid is not None
    text = Text(f"{glyphs.dot} ", "green" if running else "red") + Text(f"{status.name} ")
    text.append(f"{status.pid}" if running else f"ended by {status.last_exit or '?'}", LABEL if running else "red")
    if running and status.starts > 1:
        text.append(f" restarted {status.starts - 1}x", "yellow")
    return text + Text("   ")
