"""Patterns: what they find, what they refuse, and that what is remembered while searching changes nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.expression import pattern as module
from aggregator.expression.pattern import Automaton, search_of
from aggregator.expression.pattern_syntax import PatternError, parse_pattern

PIECES = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", "a*", "b+", "(?:a|b)?", "(ab|b){2}", "^", "$", r"\b", "|"])


@given(st.lists(PIECES, max_size=6).map("".join), st.text("ab\n ", max_size=8))
def test_the_automaton_finds_what_re_finds(text: str, subject: str) -> None:
    expected = re.search(text.replace("$", r"\Z"), subject, re.ASCII) is not None
    assert expected == Automaton(parse_pattern(text)).search(subject)
    assert expected == search_of(text)[0](subject)


@given(st.lists(st.text("ab", min_size=3, max_size=30), min_size=5, max_size=20))
def test_forgetting_steps_changes_no_answer(subjects: list[str]) -> None:
    lasting, forgetful = (Automaton(parse_pattern("(a|b)*a(a|b){3}b|(ba)+bb$")) for _ in range(2))
    for subject in subjects:
        forgetful._remembered = module._MAX_STEPS
        assert lasting.search(subject) == forgetful.search(subject)


def test_what_is_remembered_is_bounded() -> None:
    automaton = Automaton(parse_pattern("(a|b)*a(a|b){12}c"))
    subject = "".join("ab"[(at * at * 7919 >> 3) & 1] for at in range(30_000))
    assert automaton.search(subject) is False
    assert sum(map(len, automaton._steps.values())) <= module._MAX_STEPS


def test_a_pattern_without_repetition_goes_to_re_and_any_other_does_not() -> None:
    assert [False, False, True, True] == [search_of(text)[1] for text in ("Xid", "^a|[bc]d$", "a*", "(a|b)(a|b)")]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("(", 0), ("a)", 1), ("[a", 0), ("[b-a]", 1), ("*", 0), ("a**", 2), ("a{2}{3}", 4), ("a{1001}", 1),
        ("a{3,2}", 1),
        (r"\p", 0), (r"\1", 0), ("(?=a)", 0), ("(?<=a)", 0), ("(?P=n)", 0), ("a(?i)b", 1), ("(?ix)a", 0), (r"\xg0", 0),
        (r"\x{110000}", 0), ("[[:frob:]]", 1), ("^*", 0), ("\\", 0), ("{2}", 0),
        ("a" * 1025, 0), ("(" * 40, 32),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_place(text: str, at: int) -> None:
    with pytest.raises(PatternError) as caught:
        search_of(text)
    assert at == caught.value.at


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("Xid .*: (48|79)", "Xid "),
        ("a*", ""),
        ("(?i)ab+", ""),
        ("a+bc$", "bc"),
        ("[ab]c*d", "d"),
        (r"a\bb*", "a"),
        ("", ""),
    ],
)
def test_what_every_find_holds_is_looked_for_first(text: str, needed: str) -> None:
    assert needed == module._needed(parse_pattern(text))
