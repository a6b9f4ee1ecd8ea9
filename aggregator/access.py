"""Who may do what: one question, `authorise(caller, action, resource)`, asked before every route and every batch.

A caller has scopes, an action has a need, and two tables say which scopes meet which need. What a scope speaks for is a
name or a pattern: `*` stands for any characters, `?` for one.

| scope | lets its holder |
|---|---|
| `ingest:<subject>` | publish for these subjects, and use the control channel as one of them |
| `read` | read and query everything, secrets excepted (they are kept nowhere) |
| `claims:<tenant>` | claim and release devices for these tenants |
| `admin` | everything except publishing: who administers does not thereby speak for machines |
"""

import re
from enum import Enum
from functools import lru_cache
from typing import Final

import msgspec

from schemas.errors import AccessError, MusterError

_SUBJECT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:@/+-]{0,253}[A-Za-z0-9])?\Z")
_PATTERN: Final = re.compile(r"[A-Za-z0-9*?](?:[A-Za-z0-9._:@/+*?-]{0,253}[A-Za-z0-9*?])?\Z")
RESERVED: Final = frozenset({"aggregator"})
"""Names under which Muster's own parts publish; nobody who comes from outside may have them."""


class ScopeError(MusterError):
    """A scope, a pattern or the name of a subject that cannot be one."""

    code = "access.scope"


class Who(Enum):
    """How a caller is known."""

    TOKEN = "token"  # noqa: S105  # a word, not a secret
    """By a bearer token."""
    LOCAL = "local"
    """By the 0600 unix socket inside `muster up`: whoever can open it could read the database too."""
    ANONYMOUS = "anonymous"
    """Not at all. Has scopes only where the configuration gives some to everybody."""


class Caller(msgspec.Struct, frozen=True):
    """Who is asking."""

    who: Who
    scopes: tuple[str, ...] = ()
    token: str = ""
    """The id of the token (never its secret); "" without one."""
    node: str = ""
    """The node that the token was made for at enrolment; "" for any other."""
    user: str = ""
    """Who speaks over the local socket, where the kernel told: `alice`, or `root(alice)` of one who became root."""

    @property
    def name(self) -> str:
        """The caller as records of what was done name it: `token:k3v9...`, `local:alice`, `anonymous`."""
        known = self.token or self.user
        return f"{self.who.value}:{known}" if known else self.who.value


LOCAL: Final = Caller(Who.LOCAL)
"""Whoever speaks over the local socket, unnamed."""
ANONYMOUS: Final = Caller(Who.ANONYMOUS)
"""Somebody without token, where nothing is open to everybody."""


class Action(Enum):
    """Everything that can be asked for. The value is what messages and documentation show."""

    HEALTH = "health"
    """Whether the process lives and is ready."""
    ENROL = "enrol"
    """Trade an enrolment token, which is checked by itself, for a node's own."""
    PUBLISH = "publish"
    """Hand in rows. Resource: the publisher, and again each subject that the rows speak about."""
    CONTROL = "control"
    """Wait on the control channel. Resource: the publisher."""
    READ = "read"
    """Look at nodes, collectors, devices and at how Muster itself does."""
    QUERY = "query"
    """Ask the store."""
    BALANCE = "balance"
    """See what became of every row."""
    METRICS = "metrics"
    """Read Muster's own metrics."""
    WATCH = "watch"
    """Follow events, or a node's rows as they come (which makes it flush sooner)."""
    VERBOSITY_READ = "verbosity.read"
    """List verbosity grants."""
    QUARANTINE_READ = "quarantine.read"
    """List and look into quarantined batches."""
    VERBOSITY_WRITE = "verbosity.write"
    """Set and clear verbosity grants."""
    NODES_WRITE = "nodes.write"
    """Cordon, drain, rename, decommission, replace and reinstate nodes."""
    ADOPT = "adopt"
    """Vouch for devices, and hand in records of other schedulers."""
    MARK = "mark"
    """Taint and untaint devices and nodes."""
    QUARANTINE_WRITE = "quarantine.write"
    """Delete quarantined batches."""
    TOKENS_READ = "tokens.read"
    """List tokens."""
    TOKENS_WRITE = "tokens.write"
    """Issue, rotate and revoke tokens."""
    ADMIN = "admin"
    """Whatever else changes this aggregator: reload, backup, restore."""
    CLAIM = "claim"
    """Claim and release devices. Resource: the tenant."""


class Need(Enum):
    """What an action asks of its caller."""

    NOTHING = "nothing"
    INGEST = "ingest"
    READ = "read"
    CLAIMS = "claims"
    ADMIN = "admin"


RULES: Final[dict[Action, Need]] = {
    Action.HEALTH: Need.NOTHING,
    Action.ENROL: Need.NOTHING,
    Action.PUBLISH: Need.INGEST,
    Action.CONTROL: Need.INGEST,
    Action.READ: Need.READ,
    Action.QUERY: Need.READ,
    Action.BALANCE: Need.READ,
    Action.METRICS: Need.READ,
    Action.WATCH: Need.READ,
    Action.VERBOSITY_READ: Need.READ,
    Action.QUARANTINE_READ: Need.READ,
    Action.VERBOSITY_WRITE: Need.ADMIN,
    Action.NODES_WRITE: Need.ADMIN,
    Action.ADOPT: Need.ADMIN,
    Action.MARK: Need.ADMIN,
    Action.QUARANTINE_WRITE: Need.ADMIN,
    Action.TOKENS_READ: Need.ADMIN,
    Action.TOKENS_WRITE: Need.ADMIN,
    Action.ADMIN: Need.ADMIN,
    Action.CLAIM: Need.CLAIMS,
}
"""What each action needs."""

MEETS: Final[dict[Need, frozenset[str]]] = {
    Need.NOTHING: frozenset(),
    Need.INGEST: frozenset({"ingest"}),
    Need.READ: frozenset({"read", "admin"}),
    Need.CLAIMS: frozenset({"claims", "admin"}),
    Need.ADMIN: frozenset({"admin"}),
}
"""The kinds of scope that meet each need."""

_FOR: Final = frozenset({"ingest", "claims"})  # the kinds that name for whom


def may(caller: Caller, action: Action, resource: str = "") -> bool:
    """Tell whether `caller` may do `action` on `resource` ("" where the action concerns none)."""
    need = RULES[action]
    if need is Need.NOTHING or caller.who is Who.LOCAL:
        return True
    kinds = MEETS[need]
    for scope in caller.scopes:
        kind, _, pattern = scope.partition(":")
        if kind in kinds and (kind not in _FOR or matches(pattern, resource)):
            return True
    return False


def authorise(caller: Caller, action: Action, resource: str = "") -> None:
    """Raise AccessError unless `caller` may do `action`: `authenticated` false (401) when nobody knows who it is."""
    if may(caller, action, resource):
        return
    need = RULES[action].value
    if RULES[action] in (Need.INGEST, Need.CLAIMS):
        need = f"{need}:{resource}"
    of = f" for {resource!r}" if resource else ""
    if caller.who is Who.ANONYMOUS:
        raise AccessError(f"{action.value}{of} needs a token with the scope {need!r}", authenticated=False)
    has = ", ".join(caller.scopes) or "none"
    raise AccessError(f"{caller.name} may not {action.value}{of}: that needs the scope {need!r}; it has: {has}")


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern such that only its last star is ever tried again, whatever somebody thought up.

    Each star before it takes the first place that fits, for good (an atomic group): at most pattern times name.
    """

    def literal(part: str) -> str:
        return "".join("." if character == "?" else re.escape(character) for character in part)

    first, *rest = pattern.split("*")
    if not rest:
        return re.compile(literal(first), re.DOTALL)
    middle = "".join(f"(?>.*?{literal(part)})" for part in rest[:-1] if part)
    return re.compile(f"{literal(first)}{middle}.*{literal(rest[-1])}", re.DOTALL)


def matches(pattern: str, name: str) -> bool:
    """Tell whether `name` is what `pattern` stands for. The empty pattern and the empty name match nothing."""
    if not name or not pattern:
        return False
    return pattern in ("*", name) or _compiled(pattern).fullmatch(name) is not None


def is_pattern(text: str) -> bool:
    """Tell whether `text` stands for more than one name."""
    return "*" in text or "?" in text


def check_subject(name: str) -> str:
    """Give `name` back when it can name a subject (up to 255 letters, digits, `._:@/+-`). Raises ScopeError.

    A name with a wildcard in it would make a pattern of the scope that is made from it; a reserved one would pass for
    Muster itself.
    """
    if name in RESERVED:
        raise ScopeError(f"{name!r} cannot name a node: Muster itself reports under that name; choose another")
    if not _SUBJECT.match(name):
        raise ScopeError(
            f"{name[:80]!r} cannot name a node: use 1 to 255 letters, digits and . _ : @ / + -, and begin and end with"
            f" a letter or digit"
        )
    return name


def check_pattern(pattern: str) -> str:
    """Give `pattern` back when it can be one: a subject's name with `*` and `?`. Raises ScopeError."""
    if not _PATTERN.match(pattern) or pattern.count("*") > 4:  # more stars only make matching slow
        raise ScopeError(
            f"{pattern[:80]!r} cannot be a pattern: use a name, or one with up to four * and any number of ?"
        )
    return pattern


def check_scope(scope: str) -> str:
    """Give `scope` back when it is one of those in the table above. Raises ScopeError."""
    kind, colon, pattern = scope.partition(":")
    if kind in _FOR and colon:
        check_pattern(pattern)
    elif scope not in ("read", "admin"):
        raise ScopeError(f"{scope[:80]!r} is no scope; scopes are ingest:SUBJECT, read, claims:TENANT and admin")
    return scope
