"""What the operator expects of a node's devices, in a file, and how their documents differ from it (R000-3, R000-4).

    [[expect]]
    kind = "vf"
    match = {vlan = 301}
    count = 16
    must = {spoof_check = true, trust = false}

    [[expect]]
    kind = "nvme-namespace"
    must = {sector_bytes = 4096, sectors = 937684566}

    [[expect]]
    kind = "bmc"
    must = {firmware = "7.00.60.00", "firmware_versions:BIOS.Setup.1-1" = "1.8.2"}

`<word>:<name>` is what the entry `<name>=...` of a list says. Each collector takes the expectations of the kinds of
device that it describes.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from schemas.device import DeviceKind, Document, Value
from schemas.errors import MusterError

_MAX_BYTES: Final = 1 << 20
_PLACES: Final[dict[str, Callable[[Document], str]]] = {
    "address": lambda document: document.slot.address,
    "path": lambda document: document.slot.path,
    "location": lambda document: document.slot.location,
    "vendor": lambda document: document.part.vendor,
    "model": lambda document: document.part.model,
    "part_number": lambda document: document.part.part_number,
    "serial": lambda document: document.part.serial,
    "uuid": lambda document: document.part.uuid,
    "firmware": lambda document: document.part.firmware,
    "device": lambda document: document.device,
    "parent": lambda document: document.parent,
}
"""Words that are not among a document's capabilities; "" there is absent."""


class ExpectationError(MusterError):
    """The file of expectations cannot be read."""

    code = "expectation.invalid"


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is expected of some devices."""

    kind: DeviceKind
    match: dict[str, Value] = {}
    """Which devices of that kind: those that say all of this; {}: every one."""
    count: Annotated[int, Meta(ge=0)] | None = None
    """How many there must be; None: any number."""
    must: dict[str, Value] = {}
    """What each of them must say. A list is compared without its order."""


class Unmet(msgspec.Struct, frozen=True, order=True):
    """One expectation that is not met."""

    device: str
    """The device that differs; "" when there are too many or too few."""
    kind: str
    """`wrong-count`, or `wrong-` and the word that differs: `wrong-vlan`."""
    message: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    expect: list[Expectation] = []


def read_expectations(path: Path) -> list[Expectation]:
    """Read a file. Raises ExpectationError, which says where and what."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ExpectationError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise ExpectationError(f"{path} has more than {_MAX_BYTES} bytes")
    return parse_expectations(data, str(path))


def parse_expectations(data: bytes, name: str = "the file") -> list[Expectation]:
    """Read the text of a file. Raises ExpectationError."""
    import tomllib

    try:
        return msgspec.convert(tomllib.loads(data.decode()), _File).expect
    except (ValueError, RecursionError) as error:  # msgspec's and tomllib's among them
        raise ExpectationError(f"{name} holds no expectations: {error}") from None


def compare(expected: Iterable[Expectation], documents: Iterable[Document]) -> list[Unmet]:
    """Give what is not met, in an order that stays. A word that a document does not say differs from every value."""
    all_of = list(documents)
    return sorted(unmet for one in expected for unmet in _unmet(one, all_of))


def _unmet(expected: Expectation, documents: list[Document]) -> Iterator[Unmet]:
    chosen = [
        document
        for document in documents
        if document.kind is expected.kind
        and all(_same(_said(document, word), value) for word, value in expected.match.items())
    ]
    if expected.count is not None and len(chosen) != expected.count:
        which = "".join(f" with {word} {_words(value)}" for word, value in sorted(expected.match.items()))
        text = f"{len(chosen)} devices of kind {expected.kind.value}{which} instead of {expected.count}"
        yield Unmet("", "wrong-count", text)
    for document in chosen:
        for word, value in expected.must.items():
            said = _said(document, word)
            if not _same(said, value):
                text = f"{word} {'not told' if said is None else _words(said)} instead of {_words(value)}"
                yield Unmet(document.device, f"wrong-{word}", text)


def _said(document: Document, word: str) -> Value | None:
    place = _PLACES.get(word)
    if place is not None and word not in document.capabilities:
        return place(document) or None
    if ":" in word:
        return _entry(document, *word.split(":", 1))
    return document.capabilities.get(word)


def _entry(document: Document, word: str, name: str) -> Value | None:
    """Give what an entry of a list of `<name>=<value>` says; None for none."""
    entries = document.capabilities.get(word)
    if not isinstance(entries, list):
        return None
    return next((value for entry in entries for key, _, value in [entry.partition("=")] if key == name), None)


def _same(said: Value | None, value: Value) -> bool:
    if isinstance(said, list) and isinstance(value, list):
        return sorted(said) == sorted(value)
    if isinstance(said, bool) or isinstance(value, bool):  # True is 1 to Python, and to nobody else
        return said is value
    return said == value


def _words(value: Value) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)
