"""Every error that Muster raises on purpose.

    MusterError
    |-- ConfigError            the operator's configuration, before any I/O; exit status 78
    |-- StartupError           a collector cannot start now (`retry` says whether to try again)
    |   `-- NewProcessError    nor ever again in this process: the host gives it a new one
    |-- NoDataError            the hardware or interface is not there: a fact, not a failure
    |-- PartialCollectError    some devices or values of one collection failed
    |-- WireError              bytes from another program
    |   |-- MalformedError     not what the codec describes
    |   |-- UnknownVersionError  a wire version that this program does not speak
    |   `-- TooLargeError      over a stated limit
    |-- QueryError             a question that cannot be answered as asked
    |-- AccessError            who is asking may not do that
    |-- SpoolError             the spool cannot keep what it is given
    `-- StoreError             the store cannot keep what it is given

Each class has a `code`: a stable string that API answers carry. Once released, a code is never changed.
"""

from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_FEW: Final = 3
"""The most names that an error suggests."""
_MANY: Final = 2000
"""With more names than these (15 ms) a misspelt one is not compared with each."""
_LONGEST: Final = 64
"""Characters of an id that are looked at."""
_BEGINNING: Final = 6
"""Characters that are enough of a beginning."""
_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789-_"


class MusterError(Exception):
    """The base of every deliberate error."""

    code: ClassVar[str] = "error"


class ConfigError(MusterError):
    """A configuration that cannot be used; `places` lists one line per problem: place, what, remedy."""

    code = "config.invalid"

    def __init__(self, *places: str) -> None:
        super().__init__("\n".join(places))
        self.places = places


class StartupError(MusterError):
    """A collector cannot start. `retry` false: never again in this process (wrong platform, say)."""

    code = "collector.startup"

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


class NewProcessError(StartupError):
    """What a collector uses is spent in this process: a library that is never unloaded, of a driver that is gone.

    Raised by any call of a collector, or by its watch: the host ends its helper, and starts it in a new one.
    """

    code = "collector.new_process"
    new_process = True


class NoDataError(MusterError):
    """There is nothing here to read: no such hardware, no such kernel interface. Logged at debug level."""

    code = "collector.no_data"


class PartialCollectError(MusterError):
    """Part of a collection failed; what was read before stands. `failed` counts the values or devices."""

    code = "collector.partial"

    def __init__(self, message: str, *, failed: int) -> None:
        super().__init__(message)
        self.failed = failed


class WireError(MusterError):
    """Bytes from another program that cannot be taken."""

    code = "wire.invalid"


class MalformedError(WireError):
    """The bytes are not what the codec describes."""

    code = "wire.malformed"


class UnknownVersionError(WireError):
    """The sender speaks a wire version that this program does not; `understood` lists those that it does."""

    code = "wire.unknown_version"

    def __init__(self, version: int, understood: tuple[int, ...]) -> None:
        super().__init__(
            f"wire version {version} is not understood here; understood: "
            f"{', '.join(map(str, understood))}. Upgrade the older side first."
        )
        self.version = version
        self.understood = understood


class TooLargeError(WireError):
    """Over a stated limit of size, rows or nesting."""

    code = "wire.too_large"


class QueryError(MusterError):
    """A question that cannot be answered as asked."""

    code = "query.invalid"


class AccessError(MusterError):
    """Who is asking may not do that. `authenticated` false: nobody knows who is asking."""

    code = "access.denied"

    def __init__(self, message: str, *, authenticated: bool = True) -> None:
        super().__init__(message)
        self.authenticated = authenticated


class SpoolError(MusterError):
    """The spool cannot keep what it is given; nothing of the request was kept."""

    code = "spool.failed"


class StoreError(MusterError):
    """The store cannot keep what it is given; nothing of the transaction was kept."""

    code = "store.failed"


def misfit(error: Exception) -> str:
    """Say what msgspec did not take of a body: by the place in it, where there is one."""
    what, at, place = str(error).rpartition(" - at `$")
    if not at:
        return f"the body is not what is expected: {error}"
    return f"{place.strip('.`')}: {what[:1].lower()}{what[1:]}".replace("`", "")


def near_names(name: str, known: "list[str] | tuple[str, ...] | set[str]") -> str:
    """Give the end of an error message: " Did you mean 'x' or 'y'?", or "" when nothing is near.

    Of more than `_MANY` names only those are looked for that `near_ids` finds: comparing with each takes too long.
    """
    from difflib import get_close_matches  # needed after a mistake only

    if len(known) > _MANY:
        return did_you_mean(near_ids(name, set(known)))
    return did_you_mean(get_close_matches(name, list(known), n=_FEW, cutoff=0.6))


def near_ids(id_: str, known: "Collection[str]") -> list[str]:
    """Give ids that somebody may have meant, at most three: one mistyped character away, else those that begin so.

    That two ids share some letters says nothing where letters are drawn at random. `known` is asked about 1,000 times,
    and read through at most once: it should be a set or a dictionary.
    """
    from itertools import islice

    id_ = id_[:_LONGEST]
    found = dict.fromkeys(one for one in _mistyped(id_) if one in known)
    if not found and len(id_) >= _BEGINNING:
        return list(islice((one for one in known if one.startswith(id_)), _FEW))
    return list(found)[:_FEW]


def _mistyped(word: str) -> "Iterator[str]":
    """Give what is one character left out, too many, wrong, or in its neighbour's place away."""
    for at in range(len(word) + 1):
        before, after = word[:at], word[at:]
        yield before + after[1:]
        yield before + after[1:2] + after[:1] + after[2:]
        for character in _CHARACTERS:
            yield before + character + after
            yield before + character + after[1:]


def did_you_mean(near: "Sequence[str]") -> str:
    """Give the end of an error message that names what is near; "" when nothing is."""
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(candidate) for candidate in near) + "?"
