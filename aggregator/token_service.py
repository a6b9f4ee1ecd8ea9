"""The tokens that are valid now, in memory: who is asking is answered without a read of the database.

What is issued, rotated or revoked through here counts at once in this process. What another process does to the same
database counts after `REFRESH_S` at the latest.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from aggregator import tokens
from aggregator.access import Caller, ScopeError, Who
from aggregator.control import Control
from aggregator.tokens import Enrolment, Issued, IssuedEnrolment, Secret, Token, TokenError
from schemas.errors import AccessError

T = TypeVar("T")
REFRESH_S: Final = 30.0
"""How long a token is believed without asking the database again."""
GRACE_S: Final = 24 * 3600.0
"""How long a rotated token stays valid unless told otherwise."""
_LIMIT: Final = 65_536
_KEEP_NS: Final = 30 * 86400 * 10**9


class Tokens:
    """Issues, checks and ends tokens. For one event loop."""

    def __init__(
        self,
        control: Control,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._control = control
        self._clock = clock
        self._wall_ns = wall_ns
        self._valid: dict[bytes, tuple[Token, Caller, float]] = {}  # by digest: no secret stays in memory
        self._generation = 0
        self._used: dict[str, int] = {}

    async def authenticate(self, text: str) -> Caller:
        """Give the caller that shows this token. Raises AccessError (401); the message never holds the secret."""
        secret = Secret(text)
        digest = secret.digest
        known = self._valid.get(digest)
        if known is None or self._clock() - known[2] >= REFRESH_S:
            known = await self._look_up(secret, digest)
        token, caller, _ = known
        now_ns = self._wall_ns()
        if not token.valid(now_ns):
            self._valid.pop(digest, None)
            raise AccessError(f"token {token.id} is expired or revoked", authenticated=False)
        self._used[token.id] = now_ns
        return caller

    async def issue(self, name: str, scopes: Sequence[str], caller: Caller, *, expires_ns: int | None = None) -> Issued:
        """Make an access token. Raises ScopeError, TokenError."""
        make = partial(tokens.issue, name=name, scopes=scopes, who=caller.name, expires_ns=expires_ns)
        return await self._change(partial(make, now_ns=self._wall_ns()))

    async def rotate(self, id: str, caller: Caller, *, grace_s: float = GRACE_S) -> Issued:  # noqa: A002
        """Make the successor of a token, which stays valid for `grace_s` more. Raises TokenError."""
        make = partial(tokens.rotate, id=id, who=caller.name, grace_ns=int(grace_s * 1e9))
        return await self._change(partial(make, now_ns=self._wall_ns()))

    async def revoke(self, id: str, *, whole_line: bool = True) -> list[str]:  # noqa: A002
        """End a token and those that it was rotated from and into; give their ids. Raises TokenError."""
        return await self._change(partial(tokens.revoke, id=id, now_ns=self._wall_ns(), whole_line=whole_line))

    async def access_tokens(self, *, dead: bool = False) -> list[Token]:
        """Give the access tokens, without any secret, oldest first."""
        await self.flush()
        return await self._control.read(partial(tokens.list_tokens, now_ns=self._wall_ns(), dead=dead))

    async def issue_enrolment(
        self, name: str, subjects: Sequence[str], caller: Caller, *, uses: int = 1, life_s: float = 3600.0
    ) -> IssuedEnrolment:
        """Make an enrolment token for `uses` nodes with names like `subjects`. Raises ScopeError, TokenError."""
        now_ns = self._wall_ns()
        expires_ns = now_ns + int(life_s * 1e9)
        make = partial(tokens.issue_enrolment, name=name, subjects=subjects, uses=uses, expires_ns=expires_ns)
        return await self._change(partial(make, who=caller.name, now_ns=now_ns))

    async def revoke_enrolment(self, id: str) -> None:  # noqa: A002
        """End an enrolment token; the nodes that it enrolled keep theirs. Raises TokenError."""
        await self._change(partial(tokens.revoke_enrolment, id=id, now_ns=self._wall_ns()))

    async def enrolments(self) -> list[Enrolment]:
        """Give the enrolment tokens, without any secret, oldest first."""
        return await self._control.read(tokens.list_enrolments)

    async def enrol(self, text: str, node: str, nonce: bytes) -> Issued:
        """Trade an enrolment token for the node's own; see `tokens.enrol`."""
        trade = partial(tokens.enrol, secret=Secret(text), node=node, nonce=nonce)
        return await self._change(partial(trade, now_ns=self._wall_ns()))

    def forget(self) -> None:
        """Believe nothing that is in memory: tokens were ended by somebody else (a node was decommissioned)."""
        self._generation += 1
        self._valid.clear()

    async def flush(self) -> None:
        """Keep when tokens were last used. Called about once a minute; what a crash takes of it is no loss."""
        used, self._used = self._used, {}
        if used:
            await self._control.write(partial(tokens.touch, used=used))

    async def sweep(self) -> int:
        """Forget tokens that ended more than 30 days ago; give how many. Called about once a day."""
        return await self._control.write(partial(tokens.sweep, before_ns=self._wall_ns() - _KEEP_NS))

    async def _change(self, transaction: Callable[..., T]) -> T:
        try:
            changed = await self._control.write(transaction)
        except (AccessError, ScopeError, TokenError):
            raise  # nothing changed; and whoever is refused an enrolment must not make us look up every token again
        except BaseException:  # cancelled, say: it may have been kept
            self.forget()
            raise
        self.forget()
        return changed

    async def _look_up(self, secret: Secret, digest: bytes) -> tuple[Token, Caller, float]:
        generation = self._generation
        token = await self._control.read(partial(tokens.by_digest, secret=secret))
        if token is None:
            self._valid.pop(digest, None)
            raise AccessError(_refusal(secret), authenticated=False)
        known = (token, Caller(Who.TOKEN, token.scopes, token.id, token.node or ""), self._clock())
        if generation == self._generation:  # else something changed while we read, perhaps this very token
            if len(self._valid) >= _LIMIT:
                self._valid.clear()
            self._valid[digest] = known
        return known


def _refusal(secret: Secret) -> str:
    if tokens.token_id(secret.reveal(), tokens.ENROLS):
        return "this is an enrolment token: it is traded for a node's own token at enrolment, and good for nothing else"
    if tokens.token_id(secret.reveal(), tokens.ACCESS) is None:
        return "this is not a token; a token begins with mst_ and has 69 characters"
    return "the token is unknown, or its end was long ago"
