"""Reads a ledger's entries by rules of its own, and says where anything was ever given twice.

Knows nothing of `aggregator.ledger.state` or `apply`: only the words of the entries, and what each means for who may
use a device. A device is a claim's from the grant until its node has confirmed the end, or, when no node was ever told,
until the claim ended.
"""

import contextlib
import sqlite3
from collections import Counter
from pathlib import Path

import msgspec
import zstandard

from aggregator.ledger import entries as words
from aggregator.ledger.entries import Entry
from aggregator.ledger.model import Held


class _Claim(msgspec.Struct):
    tenant: str
    devices: dict[str, None]
    amounts: dict[str, dict[str, int]]
    told: bool = False
    over: bool = False


def _pieces(body: bytes) -> list[bytes]:
    """Give what holds entries: the row itself, or the many that old rows were joined of."""
    if not body.startswith(zstandard.FRAME_HEADER):
        return [body]
    return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(body), type=list[bytes])


class Reader:
    """What the entries add up to, by the simplest rules; `problems` grows with what must never be."""

    def __init__(self, capacity: dict[str, int] | None = None, quota: dict[str, int] | None = None) -> None:
        """`capacity`: vcpus by node; `quota`: devices by tenant."""
        self.problems: list[str] = []
        self.owners: dict[str, str] = {}
        """Device -> the claim whose it is."""
        self.parts: dict[str, str] = {}
        """Part -> the device that it was when it was last given: one card under two names is one card."""
        self.used: set[str] = set()
        """Devices that a node was told of and that were not proved clean since."""
        self.claims: dict[str, _Claim] = {}
        self.grants = 0
        self._capacity = capacity or {}
        self._quota = quota or {}
        self._held: Counter[str] = Counter()
        self._vcpus: Counter[str] = Counter()

    def read(self, path: Path) -> "Reader":
        """Read a ledger's file to its end."""
        last = 0
        decoder = msgspec.msgpack.Decoder(list[tuple[int, Entry]])
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            for first, body in db.execute("SELECT first, body FROM ledger_entries ORDER BY first"):
                if first != last + 1:
                    self.problems.append(f"entries {last + 1} to {first - 1} are missing")
                for piece in _pieces(body):
                    for _, entry in decoder.decode(piece):
                        last += 1
                        self.take(entry)
                last = max(last, first)
        return self

    def take(self, entry: Entry) -> None:  # noqa: C901, PLR0912 - one case an entry: a table in code
        """Take one entry."""
        match entry:
            case words.Granted():
                self._grant(entry)
            case words.ClaimRestored():
                claim = self.claims.setdefault(entry.claim, _Claim(entry.tenant, {}, {}, told=True))
                claim.over, claim.told = False, True
                for held in entry.devices:
                    claim.devices[held.device] = None
                    self._own(held, entry.claim)
                    self.used.add(held.device)
            case words.Provisioned():
                claim = self.claims[entry.claim]
                claim.told = True
                self.used.update(claim.devices)
            case words.Confirmed():
                claim = self.claims[entry.claim]
                for device in entry.devices:
                    if self.owners.get(device) != entry.claim:
                        self.problems.append(
                            f"{device} is confirmed for {entry.claim}, and is {self.owners.get(device)}'s"
                        )
            case words.Undone() | words.Fenced():
                for device in entry.devices:
                    self._leave(entry.claim, device)
                if not self.claims[entry.claim].devices:  # a fence ends those of amounts alone as well
                    self._end(entry.claim)
            case words.Released() if not self.claims[entry.claim].devices:
                self._end(entry.claim)  # of amounts alone no node has anything to say
            case words.Released() | words.LeaseExpired() | words.Invalidated():
                claim = self.claims[entry.claim]
                if not claim.told:
                    for device in list(claim.devices):
                        self._leave(entry.claim, device)
                    self._end(entry.claim)
            case words.Proved():
                if entry.device in self.owners:
                    self.problems.append(f"{entry.device} is proved clean while it is {self.owners[entry.device]}'s")
                self.used.discard(entry.device)
            case _:
                pass

    def _grant(self, entry: words.Granted) -> None:
        self.grants += 1
        claim = _Claim(entry.tenant, {held.device: None for held in entry.devices}, entry.amounts)
        self.claims[entry.claim] = claim
        for held in entry.devices:
            self._own(held, entry.claim)
            if held.device in self.used:
                self.problems.append(f"{held.device} is granted to {entry.claim} before it was proved clean")
        self._held[entry.tenant] += len(claim.devices)
        limit = self._quota.get(entry.tenant)
        if limit is not None and self._held[entry.tenant] > limit:
            self.problems.append(f"{entry.tenant} holds {self._held[entry.tenant]} devices, and may hold {limit}")
        for node, amounts in claim.amounts.items():
            self._vcpus[node] += amounts.get("vcpus", 0)
            if self._vcpus[node] > self._capacity.get(node, 1 << 62):
                self.problems.append(f"{node} gives {self._vcpus[node]} vcpus of {self._capacity[node]}")

    def _own(self, held: Held, claim: str) -> None:
        device = held.device
        owner = self.owners.get(device)
        if owner is not None and owner != claim:
            self.problems.append(f"{device} is given to {claim} while it is {owner}'s")
        self.owners[device] = claim
        if held.parent or not held.part.startswith(("serial:", "uuid:")):
            return  # a partition that is to be made, of which there may be many; or a part that does not say who it is
        other = self.parts.setdefault(held.part, device)
        if other != device and self.owners.get(other) not in (None, claim):
            self.problems.append(f"{held.part} is given to {claim} as {device} while it is {self.owners[other]}'s")
        self.parts[held.part] = device

    def _leave(self, name: str, device: str) -> None:
        claim = self.claims[name]
        if claim.devices.pop(device, "") is None:
            self._held[claim.tenant] -= 1
            if self.owners.get(device) == name:
                del self.owners[device]
        if not claim.devices and claim.told:
            self._end(name)

    def _end(self, name: str) -> None:
        claim = self.claims[name]
        if not claim.over:
            claim.over = True
            for node, amounts in claim.amounts.items():
                self._vcpus[node] -= amounts.get("vcpus", 0)
