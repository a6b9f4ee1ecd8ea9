"""Tokens: what programs show to say who they are. Opaque, 256 random bits, stored only as their SHA-256.

`mst_<id>_<secret>` is an access token, `mse_<id>_<secret>` an enrolment token, good for nothing but to be traded for a
node's own access token. The id is public: lists, logs and errors show it. The secret is shown once, when it is made.
Transactions are plain functions of a connection; `Tokens`, in `token_service`, keeps the valid ones in memory.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, or_, select, update

from aggregator.access import check_pattern, check_scope, check_subject, is_pattern, matches
from aggregator.tables import ENROLMENT, ENROLMENT_USE, EPOCH, NODE, TOKEN
from schemas.errors import AccessError, MusterError

_TEXT: Final = re.compile(r"(mst|mse)_([a-z2-7]{12})_([a-z2-7]{52})\Z")
ACCESS: Final = "mst"
ENROLS: Final = "mse"


class TokenError(MusterError):
    """A token cannot be made or changed as asked."""

    code = "token.invalid"


class Secret:
    """The text of a token. Nothing shows it but `reveal`: not `repr`, not a log line, not a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the text, for whoever must have it."""
        return self._text

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the text: what is stored, and what is looked up."""
        return hashlib.sha256(self._text.encode("utf-8", "surrogateescape")).digest()

    def __repr__(self) -> str:
        match = _TEXT.match(self._text)
        return f"Secret({match[1]}_{match[2]}_...)" if match else "Secret(...)"

    __str__ = __repr__


class Token(msgspec.Struct, frozen=True):
    """An access token as lists show it: everything but what would let anybody use it."""

    id: str
    line: str
    """The id of the first token of those that were rotated into one another."""
    name: str
    """What its maker called it."""
    scopes: tuple[str, ...]
    node: str | None
    """The node that it was made for at enrolment; None for any other."""
    who: str
    """Who made it."""
    created_ns: int
    life_ns: int | None
    """How long it was made to live; None: for ever."""
    expires_ns: int | None
    """None: never."""
    revoked_ns: int | None
    used_ns: int | None
    """When it was last used, to about a minute; None: not yet."""

    def valid(self, now_ns: int) -> bool:
        """Tell whether it is good now."""
        return self.revoked_ns is None and (self.expires_ns is None or now_ns < self.expires_ns)


class Enrolment(msgspec.Struct, frozen=True):
    """An enrolment token as lists show it."""

    id: str
    name: str
    subjects: tuple[str, ...]
    """Names and patterns of the nodes that it may enrol."""
    uses: int
    """How many nodes it may enrol."""
    used: int
    """How many it has enrolled."""
    who: str
    created_ns: int
    expires_ns: int
    revoked_ns: int | None


class Issued(msgspec.Struct, frozen=True):
    """A token just made, with its secret: the only time that anybody sees it."""

    token: Token
    secret: Secret


class IssuedEnrolment(msgspec.Struct, frozen=True):
    """An enrolment token just made, with its secret."""

    enrolment: Enrolment
    secret: Secret


def token_id(text: str, kind: str) -> str | None:
    """Give the public id in the text of a token of `kind` (`ACCESS`, `ENROLS`); None when the text is none."""
    match = _TEXT.match(text)
    return match[2] if match and match[1] == kind else None


def issue(
    connection: Connection,
    *,
    name: str,
    scopes: Sequence[str],
    who: str,
    now_ns: int,
    expires_ns: int | None = None,
    node: str | None = None,
) -> Issued:
    """Make an access token. Raises ScopeError, and TokenError when it would be good for nothing."""
    if not scopes:
        raise TokenError("a token without scopes is good for nothing; give at least one")
    if expires_ns is not None and expires_ns <= now_ns:
        raise TokenError("the token would be expired already")
    if not 0 < len(name) <= 255:
        raise TokenError("a token needs a name, of at most 255 characters, to be told from others")
    wanted = tuple(dict.fromkeys(check_scope(scope) for scope in scopes))
    life_ns = None if expires_ns is None else expires_ns - now_ns
    return _insert(connection, name, wanted, who, now_ns, life_ns, node, line=None)


def by_digest(connection: Connection, secret: Secret) -> Token | None:
    """Give the access token of this text, valid or not; None when there is none."""
    row = _row(connection, secret, ACCESS)
    return None if row is None else _token(row)


def find(connection: Connection, id: str) -> Token:  # noqa: A002  # the word that users see
    """Give an access token by its id. Raises TokenError."""
    row = connection.execute(select(TOKEN).where(TOKEN.c.id == id)).first()
    if row is None:
        raise TokenError(f"there is no token {id[:80]!r}; `muster token list` shows them")
    return _token(row)


def list_tokens(connection: Connection, now_ns: int, *, dead: bool = False) -> list[Token]:
    """Give the access tokens, oldest first: the valid ones, or with `dead` also those that are no longer."""
    tokens = [_token(row) for row in connection.execute(select(TOKEN).order_by(TOKEN.c.created_ns, TOKEN.c.id))]
    return [token for token in tokens if dead or token.valid(now_ns)]


def revoke(connection: Connection, id: str, now_ns: int, *, whole_line: bool = True) -> list[str]:  # noqa: A002
    """End a token, and those that it was rotated from and into unless told not to; give the ids. Raises TokenError."""
    token = find(connection, id)
    which = TOKEN.c.line == token.line if whole_line else TOKEN.c.id == id
    return _revoke_where(connection, which, now_ns)


def revoke_node(connection: Connection, node: str, now_ns: int) -> list[str]:
    """End every token that was made for a node at enrolment; give their ids."""
    return _revoke_where(connection, TOKEN.c.node == node, now_ns)


def rotate(connection: Connection, id: str, *, who: str, now_ns: int, grace_ns: int) -> Issued:  # noqa: A002
    """Make the successor of a valid token: same scopes, same length of life. Raises TokenError.

    The one named stays valid for `grace_ns`, so that its holder can change over; every other one of its line ends, so
    that never more than two are valid. Repeated when an answer was lost, it ends the one that nobody received.
    """
    old = find(connection, id)
    if not old.valid(now_ns):
        raise TokenError(f"token {id} is expired or revoked; issue a new one instead")
    _revoke_where(connection, (TOKEN.c.line == old.line) & (TOKEN.c.id != id), now_ns)
    ends_ns = now_ns + grace_ns if old.expires_ns is None else min(old.expires_ns, now_ns + grace_ns)
    connection.execute(update(TOKEN).where(TOKEN.c.id == id).values(expires_ns=ends_ns))
    return _insert(connection, old.name, old.scopes, who, now_ns, old.life_ns, old.node, line=old.line)


def touch(connection: Connection, used: Mapping[str, int]) -> None:
    """Keep when tokens were last used: nanoseconds by id."""
    if used:
        statement = update(TOKEN).where(TOKEN.c.id == bindparam("which")).values(used_ns=bindparam("when"))
        connection.execute(statement, [{"which": id_, "when": when} for id_, when in used.items()])


def sweep(connection: Connection, before_ns: int) -> int:
    """Forget tokens of both kinds that ended before `before_ns`; give how many."""
    gone = connection.execute(
        delete(TOKEN).where(or_(TOKEN.c.expires_ns < before_ns, TOKEN.c.revoked_ns < before_ns))
    ).rowcount
    ended = or_(ENROLMENT.c.expires_ns < before_ns, ENROLMENT.c.revoked_ns < before_ns)
    dead = select(ENROLMENT.c.id).where(ended)
    connection.execute(delete(ENROLMENT_USE).where(ENROLMENT_USE.c.enrolment.in_(dead)))
    return gone + connection.execute(delete(ENROLMENT).where(ended)).rowcount


# --- enrolment ----------------------------------------------------------------------------------------------------


def issue_enrolment(
    connection: Connection, *, name: str, subjects: Sequence[str], uses: int, who: str, now_ns: int, expires_ns: int
) -> IssuedEnrolment:
    """Make an enrolment token for up to `uses` nodes with names like `subjects`. Raises ScopeError, TokenError."""
    if not subjects:
        raise TokenError("name the nodes that the enrolment token is for: a name, or a pattern such as gpu-*")
    if uses < 1 or expires_ns <= now_ns:
        raise TokenError("an enrolment token needs at least one use, and an end that is still to come")
    if not 0 < len(name) <= 255:
        raise TokenError("an enrolment token needs a name, of at most 255 characters, to be told from others")
    id_, secret = _new(ENROLS)
    row = {"id": id_, "name": name, "subjects": [check_pattern(one) for one in subjects], "uses": uses, "used": 0}
    row |= {"who": who, "created_ns": now_ns, "expires_ns": expires_ns, "revoked_ns": None}
    connection.execute(insert(ENROLMENT).values(digest=secret.digest, **row))
    return IssuedEnrolment(msgspec.convert(row, Enrolment), secret)


def list_enrolments(connection: Connection) -> list[Enrolment]:
    """Give the enrolment tokens that were not swept, oldest first."""
    rows = connection.execute(select(ENROLMENT).order_by(ENROLMENT.c.created_ns, ENROLMENT.c.id))
    return [msgspec.convert(row, Enrolment, from_attributes=True) for row in rows]


def revoke_enrolment(connection: Connection, id: str, now_ns: int) -> None:  # noqa: A002
    """End an enrolment token; the nodes that it enrolled keep theirs. Raises TokenError."""
    if not connection.execute(update(ENROLMENT).where(ENROLMENT.c.id == id).values(revoked_ns=now_ns)).rowcount:
        raise TokenError(f"there is no enrolment token {id[:80]!r}")


def enrol(connection: Connection, secret: Secret, node: str, nonce: bytes, *, now_ns: int) -> Issued:
    """Trade an enrolment token for the node's own token: scope `ingest:<node>`, no expiry, rotated by the node.

    `nonce` (16 bytes or more) is random and the node's secret: the same request again (its answer was lost) gives a
    new token in place of the one that nobody received, and takes no further use. A pattern enrols nodes that are new
    or were decommissioned; one that has a valid token is enrolled again only by an enrolment token that names it
    exactly, and the token before ends: otherwise whoever holds one for `gpu-*` could become any of them.

    Raises AccessError, ScopeError, TokenError.
    """
    check_subject(node)
    if not 16 <= len(nonce) <= 64:
        raise TokenError("enrolment needs a nonce of 16 to 64 random bytes")
    row = _row(connection, secret, ENROLS)
    if row is None or row.revoked_ns is not None or row.expires_ns <= now_ns:
        raise AccessError("the enrolment token is unknown, expired or revoked", authenticated=False)
    if not any(matches(pattern, node) for pattern in row.subjects):
        raise AccessError(f"this enrolment token is for {', '.join(row.subjects)}, not for {node!r}")
    if not _repeated(connection, row.id, node, nonce):
        _take_use(connection, row, node, now_ns)
    revoke_node(connection, node, now_ns)
    issued = _insert(connection, node, (f"ingest:{node}",), f"enrolment:{row.id}", now_ns, None, node, line=None)
    connection.execute(delete(ENROLMENT_USE).where(ENROLMENT_USE.c.enrolment == row.id, ENROLMENT_USE.c.node == node))
    use = {"enrolment": row.id, "node": node, "nonce": hashlib.sha256(nonce).digest(), "token": issued.token.id}
    connection.execute(insert(ENROLMENT_USE).values(used_ns=now_ns, **use))
    connection.execute(update(NODE).where(NODE.c.id == node).values(decommissioned_ns=None, replaced_by=None))
    connection.execute(update(EPOCH).where(EPOCH.c.node == node).values(lost_ns=None))  # its rows may come yet
    return issued


def _repeated(connection: Connection, enrolment: str, node: str, nonce: bytes) -> bool:
    """Tell whether this is the same request again."""
    of = (ENROLMENT_USE.c.enrolment == enrolment) & (ENROLMENT_USE.c.node == node)
    known = connection.execute(select(ENROLMENT_USE.c.nonce).where(of)).scalar()
    return known is not None and hmac.compare_digest(bytes(known), hashlib.sha256(nonce).digest())


def _take_use(connection: Connection, row: Row[Any], node: str, now_ns: int) -> None:
    exactly = any(not is_pattern(pattern) and pattern == node for pattern in row.subjects)
    living = (
        (TOKEN.c.node == node)
        & TOKEN.c.revoked_ns.is_(None)
        & or_(TOKEN.c.expires_ns.is_(None), TOKEN.c.expires_ns > now_ns)
    )
    if not exactly and connection.execute(select(func.count()).select_from(TOKEN).where(living)).scalar():
        raise AccessError(
            f"node {node!r} is enrolled already; to enrol it again (its state was lost), use an enrolment token made"
            f" for exactly {node!r}, or decommission it first"
        )
    # the condition is in the statement, so that two at once cannot both take the last use
    free = update(ENROLMENT).where(ENROLMENT.c.id == row.id, ENROLMENT.c.used < ENROLMENT.c.uses)
    if not connection.execute(free.values(used=ENROLMENT.c.used + 1)).rowcount:
        raise AccessError(f"this enrolment token was good for {row.uses} and is used up", authenticated=False)


# --- rows ---------------------------------------------------------------------------------------------------------


def _new(kind: str) -> tuple[str, Secret]:
    def letters(count: int) -> str:
        return base64.b32encode(secrets.token_bytes(count)).decode().rstrip("=").lower()

    id_ = letters(8)[:12]
    return id_, Secret(f"{kind}_{id_}_{letters(32)}")


def _insert(
    connection: Connection,
    name: str,
    scopes: tuple[str, ...],
    who: str,
    now_ns: int,
    life_ns: int | None,
    node: str | None,
    *,
    line: str | None,
) -> Issued:
    id_, secret = _new(ACCESS)
    expires_ns = None if life_ns is None else now_ns + life_ns
    token = Token(id_, line or id_, name, scopes, node, who, now_ns, life_ns, expires_ns, None, None)
    connection.execute(insert(TOKEN).values(digest=secret.digest, **msgspec.to_builtins(token)))
    return Issued(token, secret)


def _row(connection: Connection, secret: Secret, kind: str) -> Row[Any] | None:
    id_ = token_id(secret.reveal(), kind)
    if id_ is None:
        return None
    table = TOKEN if kind == ACCESS else ENROLMENT
    row = connection.execute(select(table).where(table.c.id == id_)).first()
    if row is None or not hmac.compare_digest(bytes(row.digest), secret.digest):
        return None
    return row


def _token(row: Row[Any]) -> Token:
    return msgspec.convert(row, Token, from_attributes=True)


def _revoke_where(connection: Connection, which: Any, now_ns: int) -> list[str]:
    living = which & TOKEN.c.revoked_ns.is_(None)
    ids: Iterable[str] = connection.execute(select(TOKEN.c.id).where(living)).scalars()
    ended = list(ids)
    connection.execute(update(TOKEN).where(living).values(revoked_ns=now_ns))
    return ended
