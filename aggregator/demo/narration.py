"""What the viewer of a demonstration reads: what was asked, what came back, and whether that is as it should be."""

import textwrap
from collections.abc import Iterable
from typing import Final, TextIO

from schemas.errors import MusterError

WIDTH: Final = 80


class DemoError(MusterError):
    """The scenario cannot go on: what has to come for its next step did not."""

    code = "demo.failed"


class Narration:
    """Tells the story, and keeps count of what held and what did not."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.held = 0
        self.failed: list[str] = []
        """The expectations that did not hold, in words."""

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self._write(f"\n{title}\n{'-' * len(title)}\n")

    def tell(self, text: str) -> None:
        """Say what is so, or what comes next."""
        self._write(_filled(" ".join(text.split())))

    def asked(self, text: str) -> None:
        """Say what is asked."""
        self._write(_filled(text, "  > "))

    def came(self, text: str) -> None:
        """Say what came back."""
        self._write(_filled(text, "  < "))

    def lines(self, lines: Iterable[str]) -> None:
        """Show lines as they are, however long."""
        self._write("".join(f"    {line}".rstrip() + "\n" for line in lines))

    def expect(self, condition: object, claim: str) -> None:
        """Say whether what was expected is so; what is not makes the demonstration fail, and it goes on."""
        if condition:
            self.held += 1
        else:
            self.failed.append(claim)
        self._write(_filled(claim, "ok  " if condition else "NO  "))

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _filled(text: str, first: str = "") -> str:
    """Break a text into lines that begin with `first`, then with as many spaces."""
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first),
                         break_on_hyphens=False) + "\n"  # fmt: skip
