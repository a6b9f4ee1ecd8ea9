"""What can be written into the ledger: facts and decisions. `apply` says what each does."""

from typing import Final

import msgspec

from aggregator.ledger.entries_claims import (
    ClaimRestored,
    Confirmed,
    Fenced,
    Forgotten,
    Granted,
    Invalidated,
    LeaseExpired,
    Provisioned,
    Released,
    Renewed,
    UndoBegun,
    Undone,
)
from aggregator.ledger.entries_facts import (
    Agreed,
    DeviceSeen,
    Diverged,
    Joined,
    NodeReached,
    NodeRun,
    NodeSeen,
    Passed,
    ProfileDefined,
    Proved,
    RecordDropped,
    Tainted,
    Untainted,
    UsesRecorded,
    Verified,
    ViewChanged,
    Viewed,
    ViewGone,
)
from aggregator.ledger.entries_orders import (
    CheckpointShown,
    GenerationBegun,
    NodeOrdered,
    NodeReplaced,
    NodeRetired,
    PackageRemoved,
    PackageSet,
    QuotaSet,
    RatioSet,
    VariantRemoved,
    VariantSet,
)

__all__ = [
    "Agreed",
    "CheckpointShown",
    "ClaimRestored",
    "Confirmed",
    "DeviceSeen",
    "Diverged",
    "Entry",
    "Fenced",
    "Forgotten",
    "GenerationBegun",
    "Granted",
    "Invalidated",
    "Joined",
    "LeaseExpired",
    "NodeOrdered",
    "NodeReached",
    "NodeReplaced",
    "NodeRetired",
    "NodeRun",
    "NodeSeen",
    "PackageRemoved",
    "PackageSet",
    "Passed",
    "ProfileDefined",
    "Proved",
    "Provisioned",
    "QuotaSet",
    "RatioSet",
    "RecordDropped",
    "Released",
    "Renewed",
    "Tainted",
    "UndoBegun",
    "Undone",
    "Untainted",
    "UsesRecorded",
    "VariantRemoved",
    "VariantSet",
    "Verified",
    "ViewChanged",
    "ViewGone",
    "Viewed",
    "decode_entry",
    "encode_entry",
]

Entry = (
    ProfileDefined
    | NodeSeen
    | NodeRun
    | NodeReached
    | DeviceSeen
    | Viewed
    | ViewChanged
    | ViewGone
    | Verified
    | Tainted
    | Untainted
    | Passed
    | Proved
    | Joined
    | UsesRecorded
    | RecordDropped
    | Diverged
    | Agreed
    | Granted
    | Provisioned
    | Confirmed
    | Renewed
    | LeaseExpired
    | Released
    | UndoBegun
    | Undone
    | Fenced
    | Invalidated
    | ClaimRestored
    | Forgotten
    | VariantSet
    | VariantRemoved
    | PackageSet
    | PackageRemoved
    | QuotaSet
    | NodeOrdered
    | NodeRetired
    | NodeReplaced
    | RatioSet
    | GenerationBegun
    | CheckpointShown
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    """Give an entry's bytes."""
    return _encoder.encode(entry)


def decode_entry(data: bytes) -> Entry:
    """Read an entry. Raises msgspec.DecodeError, of which msgspec.ValidationError is one."""
    decoded: Entry = _decoder.decode(data)
    return decoded
