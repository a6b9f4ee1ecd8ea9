"""A full screen: the alternate one, without a cursor, drawn line over line so that nothing flickers; and keys."""

import contextlib
import io
import os
import select
import shutil
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.text import Text

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Screen:
    """Has the terminal for the length of a `with`; gives it back as it was, whatever happens."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._keys = sys.stdin if sys.stdin is not None and sys.stdin.isatty() else None
        self._modes: list[object] | None = None

    def __enter__(self) -> Self:
        """Take the terminal: no echo, keys at once; Ctrl-C stays a signal."""
        if self._keys is not None:
            import termios
            import tty

            with contextlib.suppress(termios.error):  # not ours to change: in the background, say
                self._modes = termios.tcgetattr(self._keys)
                tty.setcbreak(self._keys)
        self._write(_ENTER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._write(_LEAVE)
        if self._modes is not None and self._keys is not None:
            import termios

            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)  # type: ignore[arg-type]

    def size(self) -> tuple[int, int]:
        """Give columns and lines, as of now."""
        size = shutil.get_terminal_size((80, 24))
        return max(20, size.columns), max(4, size.lines)

    def draw(self, lines: Sequence[Text]) -> None:
        """Draw a frame over the one before."""
        width, height = self.size()
        painted = paint(lines[:height], width, colour=True)
        # every line clears what is left of it, the last what is below: nothing is blank for a moment
        body = "\x1b[K\r\n".join(painted)
        self._write(f"\x1b[H{body}\x1b[K\x1b[J")

    def key(self, seconds: float) -> str:
        """Wait so long for a key; give "" when none came."""
        if self._keys is None:
            select.select([], [], [], seconds)
            return ""
        if not select.select([self._keys], [], [], seconds)[0]:
            return ""
        return os.read(self._keys.fileno(), 16).decode("utf-8", "replace")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal went away: there is nobody to tell
            self._stream.write(text)
            self._stream.flush()


def paint(lines: Sequence[Text], width: int, *, colour: bool) -> list[str]:
    """Give the lines as a terminal takes them, with colours or plain; NO_COLOR is heeded."""
    console = Console(file=io.StringIO(), width=width, force_terminal=colour, highlight=False, legacy_windows=False,
                      color_system="standard" if colour else None)  # fmt: skip
    painted = []
    for line in lines:
        with console.capture() as capture:
            console.print(line, end="", no_wrap=True, overflow="crop", soft_wrap=True)
        painted.append(capture.get().rstrip("\n"))
    return painted
