"""Searching with a pattern, in time linear in the text whatever the pattern and the text are.

A pattern without repetition is given to `re`: it can try each of its alternatives once at each place, and no more.
Every other becomes states of a non-deterministic automaton; the deterministic one is made from it as texts are
read, a state and a step at a time, and forgotten when it grows large. A text that lacks letters which the pattern
needs in a row is not walked at all.

Source: R. Cox, "Regular Expression Matching Can Be Simple And Fast", and the design of RE2.
"""

import re
from collections.abc import Callable
from typing import Final

from aggregator.expression.pattern_syntax import (
    Edge,
    Either,
    Letters,
    Part,
    PatternError,
    Repeat,
    Sequence,
    parse_pattern,
)
from aggregator.expression.runtime import Fault

MAX_STATES: Final = 300
"""States of the non-deterministic automaton, about one a letter of the pattern written out."""
MAX_WORK: Final = 4_000_000
"""Letters of a text times states of the pattern; a longer text is not searched, and counts as a fault."""
_MAX_STEPS: Final = 10_000
"""Steps of the deterministic automaton that are remembered."""

_BEGIN, _LINE, _WORD, _OTHER, _END = range(5)
"""What stands on one side of a place: nothing yet, a line feed, a letter of a word, another letter, nothing more."""

Search = Callable[[str], "bool | Fault"]


def search_of(text: str) -> tuple[Search, bool]:
    """Give the function that tells whether a text holds the pattern anywhere, and whether it may be a Fault.

    Raises PatternError.
    """
    part = parse_pattern(text)
    if _states(part) > MAX_STATES:
        raise PatternError(f"the pattern written out has more than {MAX_STATES} letters", 0)
    if _is_plain(part):
        found = re.compile(_source(part)).search
        return lambda subject: found(subject) is not None, False
    search, needed = Automaton(part).search, _needed(part)
    if not needed:
        return search, True
    return lambda subject: needed in subject and search(subject), True


def _needed(part: Part) -> str:
    """Give the longest text that is in whatever the pattern finds, as far as that is easily seen; "" for none.

    Most texts do not hold it, and to look for it costs next to nothing.
    """
    runs = [""]
    for one in part.parts if isinstance(part, Sequence) else (part,):
        if isinstance(one, Letters) and not one.fold and not one.negated and _is_single(one):
            runs[-1] += one.ranges[0][0]
        elif not isinstance(one, Edge):
            runs.append("")
    return max(runs, key=len)


def _is_single(letters: Letters) -> bool:
    return len(letters.ranges) == 1 and letters.ranges[0][0] == letters.ranges[0][1]


def _is_plain(part: Part) -> bool:
    """Tell whether a pattern is alternatives of letters in a row, so that `re` has nothing to come back to."""
    return all(
        all(map(_is_one, one.parts)) if isinstance(one, Sequence) else _is_one(one)
        for one in (part.parts if isinstance(part, Either) else (part,))
    )


def _is_one(part: Part) -> bool:
    """Tell whether a part is one letter or place, and means to `re` what it does to RE2; "" is where they differ."""
    return isinstance(part, Letters | Edge) and part is not Edge.NO_WORD


def _source(part: Part) -> str:
    """Write a pattern without repetition as `re` reads it."""
    if isinstance(part, Letters):
        inner = "".join(f"{_code(first)}-{_code(last)}" for first, last in part.ranges)
        written = f"[{'^' if part.negated else ''}{inner}]"
        return f"(?i:{written})" if part.fold else written
    if isinstance(part, Edge):
        return f"(?a:{part.value})"
    assert isinstance(part, Sequence | Either)
    return f"(?:{('' if isinstance(part, Sequence) else '|').join(map(_source, part.parts))})"


def _code(letter: str) -> str:
    return f"\\U{ord(letter):08x}"


def _states(part: Part) -> int:
    """Give how many states a part will take; stops counting soon after too many."""
    if isinstance(part, Letters | Edge):
        return 1
    if isinstance(part, Repeat):
        return (max(part.least, 1) if part.most is None else part.most) * (_states(part.part) + 1) + 1
    total = len(part.parts)
    for inner in part.parts:
        total += _states(inner)
        if total > MAX_STATES:
            break
    return total


class _Step(dict[str, "_Step"]):
    """A state of the deterministic automaton: the next state by letter."""

    __slots__ = ("before", "places")

    def __init__(self, places: frozenset[int], before: int) -> None:
        super().__init__()
        self.places = places
        """Where the other automaton may be, before what is asserted of this place."""
        self.before = before
        """What the letter before was."""


_FOUND: Final = _Step(frozenset(), _OTHER)


class Automaton:
    """A pattern as an automaton. Any thread may search: what they share only grows or is replaced."""

    def __init__(self, part: Part) -> None:
        self._letters: list[Letters | None] = []
        """By state; None: it reads nothing."""
        self._edges: list[Edge | None] = []
        self._onward: list[list[int]] = []
        last = self._add(None, None)
        self._last = last
        self._first = self._build(part, last)
        self._steps: dict[tuple[frozenset[int], int], _Step] = {}
        self._remembered = 0
        self._start = self._state(frozenset([self._first]), _BEGIN)

    def search(self, text: str) -> "bool | Fault":
        """Tell whether the pattern is anywhere in the text; Fault.TOO_LONG when that would take too long."""
        if len(text) * len(self._onward) > MAX_WORK:
            return Fault.TOO_LONG
        state = self._start
        for letter in text:
            after = state.get(letter)
            if after is None:
                after = self._step(state, letter)
            if after is _FOUND:
                return True
            state = after
        return self._last in self._closure(state, _END)

    # ------------------------------------------------------------------------------------------ building

    def _add(self, letters: Letters | None, edge: Edge | None, *onward: int) -> int:
        self._letters.append(letters)
        self._edges.append(edge)
        self._onward.append([*onward])
        return len(self._onward) - 1

    def _build(self, part: Part, after: int) -> int:
        """Add the states of `part` before the state `after`; give the first of them."""
        if isinstance(part, Letters):
            return self._add(part, None, after)
        if isinstance(part, Edge):
            return self._add(None, part, after)
        if isinstance(part, Sequence):
            for inner in reversed(part.parts):
                after = self._build(inner, after)
            return after
        if isinstance(part, Either):
            return self._add(None, None, *[self._build(inner, after) for inner in part.parts])
        if part.most is None:
            loop = self._add(None, None, after)
            self._onward[loop].append(self._build(part.part, loop))
            after = loop
        else:
            for _ in range(part.most - part.least):
                after = self._add(None, None, after, self._build(part.part, after))
        for _ in range(part.least):
            after = self._build(part.part, after)
        return after

    # ------------------------------------------------------------------------------------------ running

    def _state(self, places: frozenset[int], before: int) -> _Step:
        state = self._steps.get((places, before))
        if state is None:
            state = self._steps[places, before] = _Step(places, before)
        return state

    def _step(self, state: _Step, letter: str) -> _Step:
        self._remembered += 1
        if self._remembered > _MAX_STEPS:
            self._steps, self._remembered = {}, 0
            self._start = self._state(frozenset([self._first]), _BEGIN)
            state = self._state(state.places, state.before)
        side = _side(letter)
        reached = self._closure(state, side)
        if self._last in reached:
            after = _FOUND
        else:
            places = {self._first}
            for place in reached:
                letters = self._letters[place]
                if letters is not None and letters.has(letter):
                    places.update(self._onward[place])
            after = self._state(frozenset(places), side)
        state[letter] = after
        return after

    def _closure(self, state: _Step, after: int) -> set[int]:
        """Give every state that is reached without reading, between what stands before and after this place."""
        holds = {edge for edge in Edge if _holds(edge, state.before, after)}
        reached: set[int] = set()
        waiting = [*state.places]
        while waiting:
            place = waiting.pop()
            if place in reached:
                continue
            reached.add(place)
            edge = self._edges[place]
            if self._letters[place] is None and (edge is None or edge in holds):
                waiting += self._onward[place]
        return reached


def _side(letter: str) -> int:
    if letter == "\n":
        return _LINE
    return _WORD if letter == "_" or (letter.isascii() and letter.isalnum()) else _OTHER


def _holds(edge: Edge, before: int, after: int) -> bool:
    if edge is Edge.BEGIN:
        return before == _BEGIN
    if edge is Edge.END:
        return after == _END
    if edge is Edge.LINE_BEGIN:
        return before in {_BEGIN, _LINE}
    if edge is Edge.LINE_END:
        return after in {_END, _LINE}
    return ((before == _WORD) is not (after == _WORD)) is (edge is Edge.WORD)
