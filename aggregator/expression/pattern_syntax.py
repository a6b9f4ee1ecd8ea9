r"""Regular expressions as RE2 reads them, into a tree.

Taken: letters, `.`, `[...]` with ranges and `[:alpha:]`, `\d \w \s` and their opposites, `\n \t \x7f \x{1F600}` and
escaped marks, `( )`, `(?: )`, `(?P<name> )`, `|`, `* + ?`, `{n} {n,} {n,m}`, lazy or not, `^ $ \A \z \b \B`; `(?i)`,
`(?s)`, `(?m)` at the very start. `\d \w \s \b` know ASCII only. Refused with the place: back references and
look-around, which no reader can do in linear time, and what is rare: `\p{...}`, `\Q...\E`, `\C`, flags in the middle.

Source: https://github.com/google/re2/wiki/Syntax.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

MAX_PATTERN: Final = 1_024
"""Characters of a pattern."""
MAX_REPEAT: Final = 1_000
"""The most that `{n}` may ask for, as in RE2."""
_MAX_DEPTH: Final = 32

Range = tuple[str, str]
"""First and last letter, both in it."""


class PatternError(ValueError):
    """A pattern that cannot be used; `at` is the place in it."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


class Edge(Enum):
    """What is asserted about a place between two letters."""

    BEGIN = r"\A"
    END = r"\Z"
    LINE_BEGIN = r"(?:\A|(?<=\n))"
    LINE_END = r"(?:\Z|(?=\n))"
    WORD = r"\b"
    NO_WORD = r"\B"


@dataclass(frozen=True, slots=True)
class Letters:
    """One letter of a set."""

    ranges: tuple[Range, ...]
    negated: bool = False
    fold: bool = False
    """Upper and lower case alike."""

    def has(self, letter: str) -> bool:
        """Tell whether a letter is in the set."""
        if self.fold and any(self._in(form) for form in (letter.lower(), letter.upper())):
            return not self.negated
        return self._in(letter) is not self.negated

    def _in(self, letter: str) -> bool:
        return any(first <= letter <= last for first, last in self.ranges)


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other; none at all is the empty text."""

    parts: tuple["Part", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """Any of several."""

    parts: tuple["Part", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """So many times; `most` None: without end."""

    part: "Part"
    least: int
    most: int | None


Part = Letters | Edge | Sequence | Either | Repeat

_DIGIT: Final[tuple[Range, ...]] = (("0", "9"),)
_WORD: Final[tuple[Range, ...]] = (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z"))
_SPACE: Final[tuple[Range, ...]] = (("\t", "\n"), ("\f", "\r"), (" ", " "))
_CLASSES: Final[dict[str, tuple[Range, ...]]] = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_POSIX: Final[dict[str, tuple[Range, ...]]] = {
    "alnum": (("0", "9"), ("A", "Z"), ("a", "z")),
    "alpha": (("A", "Z"), ("a", "z")),
    "blank": (("\t", "\t"), (" ", " ")),
    "digit": _DIGIT,
    "lower": (("a", "z"),),
    "punct": (("!", "/"), (":", "@"), ("[", "`"), ("{", "~")),
    "space": (("\t", "\r"), (" ", " ")),
    "upper": (("A", "Z"),),
    "word": _WORD,
    "xdigit": (("0", "9"), ("A", "F"), ("a", "f")),
}
_ESCAPES: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_LAST: Final = chr(0x10FFFF)


def parse_pattern(text: str) -> Part:
    """Read a pattern. Raises PatternError."""
    if len(text) > MAX_PATTERN:
        raise PatternError(f"a pattern of {len(text)} characters exceeds {MAX_PATTERN}", 0)
    reader = _Reader(text)
    part = reader.either()
    if reader.at < len(text):
        raise PatternError("')' without '('", reader.at)
    return part


def complement(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """Give every letter that is not in `ranges`."""
    found: list[Range] = []
    start = 0
    for first, last in sorted(ranges):
        if ord(first) > start:
            found.append((chr(start), chr(ord(first) - 1)))
        start = max(start, ord(last) + 1)
    if start <= ord(_LAST):
        found.append((chr(start), _LAST))
    return tuple(found)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self.at = 0
        self._flags = self._leading_flags()

    def _peek(self, length: int = 1) -> str:
        return self._text[self.at : self.at + length]

    def _step(self, word: str) -> bool:
        if self._text.startswith(word, self.at):
            self.at += len(word)
            return True
        return False

    def _leading_flags(self) -> frozenset[str]:
        flags: set[str] = set()
        while self._peek(2) == "(?" and self._text[self.at + 2 : self.at + 3] in {*"ims"}:
            end = self._text.find(")", self.at)
            word = self._text[self.at + 2 : end]
            if end < 0 or not set(word) <= {*"ims"}:
                raise PatternError("flags are (?i), (?s) and (?m), at the very start", self.at)
            flags |= set(word)
            self.at = end + 1
        return frozenset(flags)

    def either(self) -> Part:
        """Read alternatives up to `)` or the end."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise PatternError(f"groups are nested deeper than {_MAX_DEPTH}", self.at)
        parts = [self._sequence()]
        while self._step("|"):
            parts.append(self._sequence())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _sequence(self) -> Part:
        parts: list[Part] = []
        while self.at < len(self._text) and self._peek() not in {"|", ")"}:
            at = self.at
            part = self._atom()
            parts.append(self._repeated(part, at))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, part: Part, at: int) -> Part:
        times = self._times()
        if times is None:
            return part
        if isinstance(part, Edge):
            raise PatternError("there is nothing to repeat", at)
        self._step("?")  # lazy: the same texts are found
        if self._peek() in {"*", "+", "?"} or self._is_counted(self.at):
            raise PatternError("one repetition directly after another: use a group", self.at)
        return Repeat(part, *times)

    def _is_counted(self, at: int) -> bool:
        """Tell whether `{n,m}` stands at a place."""
        before, self.at = self.at, at
        times = self._times() if self._peek() == "{" else None
        self.at = before
        return times is not None

    def _times(self) -> tuple[int, int | None] | None:
        for mark, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._step(mark):
                return times
        end = self._text.find("}", self.at)
        if self._peek() != "{" or end < 0:
            return None
        least, comma, most = self._text[self.at + 1 : end].partition(",")
        if not (least.isascii() and least.isdigit()) or (most and not (most.isascii() and most.isdigit())):
            return None  # an ordinary brace
        low, high = int(least[:9]), int(most[:9]) if most else None if comma else int(least[:9])
        if max(low, high or 0) > MAX_REPEAT or (high is not None and high < low):
            raise PatternError(f"a repetition is {{n}}, {{n,}} or {{n,m}}, up to {MAX_REPEAT}", self.at)
        self.at = end + 1
        return low, high

    def _atom(self) -> Part:
        at, letter = self.at, self._peek()
        self.at += 1
        if letter == "(":
            return self._group(at)
        if letter == "[":
            return self._set(at)
        if letter == "\\":
            return self._escaped(at)
        if letter == ".":
            return Letters(((chr(0), _LAST),) if "s" in self._flags else complement((("\n", "\n"),)))
        if letter == "^":
            return Edge.LINE_BEGIN if "m" in self._flags else Edge.BEGIN
        if letter == "$":
            return Edge.LINE_END if "m" in self._flags else Edge.END
        if letter in {"*", "+", "?"} or (letter == "{" and self._is_counted(at)):
            raise PatternError("there is nothing to repeat", at)
        return self._one(letter)

    def _one(self, letter: str) -> Letters:
        return Letters(((letter, letter),), fold="i" in self._flags)

    def _group(self, at: int) -> Part:
        if self._step("?") and not self._step(":"):
            named = self._step("P<") or (self._peek() == "<" and self._peek(2) not in {"<=", "<!"} and self._step("<"))
            end = self._text.find(">", self.at)
            if not named or not self._text[self.at : end].isidentifier():
                message = "look-around, back references and flags in the middle are not part of this language"
                raise PatternError(message, at)
            self.at = end + 1
        part = self.either()
        if not self._step(")"):
            raise PatternError("')' is missing", at)
        return part

    def _escaped(self, at: int) -> Part:
        letter = self._peek()
        edges = {"A": Edge.BEGIN, "z": Edge.END, "b": Edge.WORD, "B": Edge.NO_WORD}
        if letter in edges:
            self.at += 1
            return edges[letter]
        ranges = self._class()
        return Letters(ranges) if ranges is not None else self._one(self._letter(at))

    def _class(self) -> tuple[Range, ...] | None:
        r"""Read the letter after a backslash when it is one of `d w s D W S`."""
        letter = self._peek()
        ranges = _CLASSES.get(letter.lower())
        if ranges is None:
            return None
        self.at += 1
        return ranges if letter.islower() else complement(ranges)

    def _letter(self, at: int) -> str:
        """Read what follows a backslash as one letter."""
        letter = self._peek()
        self.at += 1
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter == "x":
            return self._hexadecimal(at)
        if not letter or letter.isalnum() or not letter.isascii():
            raise PatternError(f"\\{letter} is not part of this language", at)
        return letter

    def _hexadecimal(self, at: int) -> str:
        if self._step("{"):
            end = self._text.find("}", self.at)
            digits, after = self._text[self.at : end] if end >= 0 else "", end + 1
        else:
            digits, after = self._peek(2), self.at + 2
        if not digits or len(digits) > 6 or set(digits) - {*"0123456789abcdefABCDEF"} or int(digits, 16) > ord(_LAST):
            raise PatternError(r"a letter by number is \x7f or \x{1F600}", at)
        if after == self.at + 2 and len(digits) != 2 and self._text[self.at - 1] == "x":
            raise PatternError(r"a letter by number is \x7f or \x{1F600}", at)
        self.at = after
        return chr(int(digits, 16))

    def _set(self, at: int) -> Part:
        negated = self._step("^")
        ranges: list[Range] = []
        while not (ranges and self._step("]")):
            if self.at >= len(self._text):
                raise PatternError("']' is missing", at)
            ranges += self._member()
        return Letters(tuple(ranges), negated, "i" in self._flags)

    def _member(self) -> tuple[Range, ...]:
        """Read one letter, one range or one class of a set."""
        at = self.at
        if self._step("[:"):
            negated, end = self._step("^"), self._text.find(":]", self.at)
            ranges = _POSIX.get(self._text[self.at : end]) if end >= 0 else None
            if ranges is None:
                raise PatternError(f"a class is one of {', '.join(f'[:{word}:]' for word in _POSIX)}", at)
            self.at = end + 2
            return complement(ranges) if negated else ranges
        if self._step("\\"):
            if found := self._class():
                return found
            first = self._letter(at)
        else:
            first = self._peek()
            self.at += 1
        if self._peek() != "-" or self._peek(2) in {"-", "-]"}:
            return ((first, first),)
        self.at += 1
        last = self._peek()
        self.at += 1
        if last == "\\":
            last = self._letter(self.at - 1)
        if last < first or not last:
            raise PatternError("a range of letters runs backwards", at)
        return ((first, last),)
