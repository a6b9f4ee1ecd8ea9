"""Who may do what: every action by every kind of caller (R001-18)."""

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.access import (
    ANONYMOUS,
    LOCAL,
    MEETS,
    RESERVED,
    RULES,
    Action,
    Caller,
    Need,
    ScopeError,
    Who,
    authorise,
    check_pattern,
    check_scope,
    check_subject,
    matches,
    may,
)
from aggregator.announcer import PUBLISHER
from schemas.errors import AccessError

CALLERS = {
    "anonymous": ANONYMOUS,
    "local": LOCAL,
    "empty": Caller(Who.TOKEN, (), "t"),
    "node": Caller(Who.TOKEN, ("ingest:n1",), "t", "n1"),
    "gateway": Caller(Who.TOKEN, ("ingest:sim-*", "ingest:n1"), "t"),
    "other": Caller(Who.TOKEN, ("ingest:n2",), "t", "n2"),
    "reader": Caller(Who.TOKEN, ("read",), "t"),
    "tenant": Caller(Who.TOKEN, ("claims:n1",), "t"),
    "admin": Caller(Who.TOKEN, ("admin",), "t"),
    "open": Caller(Who.ANONYMOUS, ("read",)),
}
EVERYBODY = set(CALLERS)
SPEAKERS = {"local", "node", "gateway"}
READERS = {"local", "reader", "admin", "open"}
ADMINS = {"local", "admin"}
ALLOWED = {
    Action.HEALTH: EVERYBODY,
    Action.ENROL: EVERYBODY,
    Action.PUBLISH: SPEAKERS,
    Action.CONTROL: SPEAKERS,
    Action.READ: READERS,
    Action.QUERY: READERS,
    Action.BALANCE: READERS,
    Action.METRICS: READERS,
    Action.WATCH: READERS,
    Action.VERBOSITY_READ: READERS,
    Action.QUARANTINE_READ: READERS,
    Action.VERBOSITY_WRITE: ADMINS,
    Action.NODES_WRITE: ADMINS,
    Action.ADOPT: ADMINS,
    Action.MARK: ADMINS,
    Action.QUARANTINE_WRITE: ADMINS,
    Action.TOKENS_READ: ADMINS,
    Action.TOKENS_WRITE: ADMINS,
    Action.ADMIN: ADMINS,
    Action.CLAIM: {"local", "tenant", "admin"},
}


@pytest.mark.parametrize("name", sorted(CALLERS))
@pytest.mark.parametrize("action", list(Action))
def test_every_action_by_every_caller(action: Action, name: str) -> None:
    caller = CALLERS[name]
    assert (name in ALLOWED[action]) == may(caller, action, "n1")
    if name in ALLOWED[action]:
        authorise(caller, action, "n1")
        return
    with pytest.raises(AccessError) as refused:
        authorise(caller, action, "n1")
    assert (caller.who is not Who.ANONYMOUS) == refused.value.authenticated


def test_the_tables_are_closed() -> None:
    assert set(Action) == set(RULES) == set(ALLOWED)
    assert set(Need) == set(MEETS)


def test_without_a_resource_no_scope_that_names_subjects_is_enough() -> None:
    assert not may(Caller(Who.TOKEN, ("ingest:*",)), Action.PUBLISH, "")


def test_a_refusal_says_what_is_needed_and_what_there_is() -> None:
    with pytest.raises(
        AccessError, match=r"token:t may not publish for 'n9': that needs the scope 'ingest:n9'; it has: read"
    ):
        authorise(CALLERS["reader"], Action.PUBLISH, "n9")


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "anything", True),
        ("sim-*", "sim-1", True),
        ("sim-*", "sim-", True),
        ("sim-*", "xsim-1", False),
        ("sim-?", "sim-12", False),
        ("a.c", "abc", False),
        ("a.c", "a.c", True),
        ("*.rack7.*", "gpu1.rack7.example", True),
        ("", "", False),
        ("*", "", False),
        ("n1", "N1", False),
        ("n*", "n\nx", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("a*b*b", "ab", False),
        ("*ab*ab*", "xabab", True),
        ("*ab*ab*", "xaba", False),
        ("a*?", "a", False),
        ("?*?", "ab", True),
        ("*a?c*", "aacabc", True),
        ("a**b", "ab", True),
    ],
)
def test_patterns(pattern: str, name: str, expected: bool) -> None:
    assert expected == matches(pattern, name)


@given(st.text("ab*?", min_size=1, max_size=8), st.text("ab", min_size=1, max_size=10))
def test_patterns_match_as_file_names_do(pattern: str, name: str) -> None:
    assert fnmatch.fnmatchcase(name, pattern) == matches(pattern, name)


def test_no_pattern_makes_matching_slow() -> None:
    """Tried star by star, this is 10**10 steps and more."""
    name = "a" * 255
    begun = time.process_time()
    assert not matches("*a" * 100 + "b", name)
    assert not matches("*a?" * 80 + "b", name)
    assert not matches("*a*a*a*a*b", name)
    assert time.process_time() - begun < 0.5


def test_the_aggregators_own_name_is_no_subject_of_anybodys() -> None:
    assert PUBLISHER in RESERVED
    with pytest.raises(ScopeError, match="Muster itself"):
        check_subject(PUBLISHER)


@pytest.mark.parametrize("name", ["*", "n?", "", "a b", "a\n", "x" * 256, "-n", "n-", "[n]", "n\u00e9"])
def test_names_that_would_be_patterns_or_confuse_are_no_subjects(name: str) -> None:
    with pytest.raises(ScopeError):
        check_subject(name)


@pytest.mark.parametrize("name", ["n", "4c4c4544-0042", "gpu1.rack-7.example", "bmc:10.0.0.1", "a@b", "x" * 255])
def test_names_of_subjects(name: str) -> None:
    assert name == check_subject(name)
    assert name == check_pattern(name)


@pytest.mark.parametrize("scope", ["ingest:n1", "ingest:*", "ingest:sim-*", "read", "admin", "claims:team-a"])
def test_scopes(scope: str) -> None:
    assert scope == check_scope(scope)


@pytest.mark.parametrize(
    "scope", ["", "ingest", "ingest:", "read:x", "write", "admin:*", "claims", "ingest:a b", "ingest:*a*b*c*d*e*"]
)
def test_what_is_no_scope(scope: str) -> None:
    with pytest.raises(ScopeError):
        check_scope(scope)
