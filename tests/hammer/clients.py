"""Many clients in one process, each with a connection of its own: claims of every kind, and what becomes of them."""

import random
import sys
import time
from collections import Counter
from typing import Final, NamedTuple

from tests.hammer.client import Client
from tests.hammer.world import HOT

THREADS: Final = 16
"""Connections of each client process."""
LOOK_SECONDS: Final = 2.0
"""How often it is looked which devices the machines have now."""


class Mine(NamedTuple):
    """A claim of a client."""

    claim: str
    version: int
    answered: bool
    """Its nodes answer: they can be told."""


class Devices:
    """What can be asked for: devices of nodes that nobody speaks for, and those of machines, which come and go."""

    def __init__(self, path: str, silent: list[str]) -> None:
        self.silent = silent
        self.answered: list[str] = []
        self._client = Client(path)
        self._looked = 0.0

    def look(self) -> None:
        """See what there is, when it is time to."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            known = {*self.silent}
            listed = self._client.ask("GET", "/v1/devices?limit=10000")[1]["devices"]
            self.answered = [one["id"] for one in listed if one["id"] not in known and one["reach"] != "absent"]

    def close(self) -> None:
        """Close its connection."""
        self._client.close()


class Worker:
    """One client: asks, and gives back, for as long as it is told. For one thread."""

    def __init__(self, path: str, devices: Devices, number: int) -> None:
        self.counts: Counter[str] = Counter()
        self._path = path
        self._devices = devices
        self._number = number
        self._chance = random.Random(number)
        self._mine: list[Mine] = []

    def work(self, share: int, end: float) -> None:
        """Try so often, or until `end`; what is not as it must be is told and counted as wrong."""
        self._client = Client(self._path)
        try:
            for turn in range(share):
                if time.monotonic() >= end:
                    break
                self.counts["tried"] += 1
                if self._mine and self._chance.random() < 0.45:
                    self._go_on()
                else:
                    self._grab(f"{self._number}-{turn}")
        except Exception as error:  # noqa: BLE001 - whatever it is, this is not what a client may see
            self._wrong(repr(error))
        self._client.close()

    def _wrong(self, told: str) -> None:
        self.counts["wrong"] += 1
        sys.stderr.write(f"{told}\n")

    def _grab(self, name: str) -> None:
        """Ask for a few devices or an amount; sometimes twice under one key, which must give one claim."""
        chance, answered = self._chance, False
        tenant = chance.choice(["small", "large", "other"])
        body: dict[str, object] = {"tenant": tenant, "consumer": name, "lease_seconds": chance.choice([1.0, 60.0])}
        there = self._devices.answered
        what = chance.random()
        if what < 0.2:
            body["amounts"] = {HOT: {"vcpus": chance.randint(1, 8)}}
        else:
            answered = what < 0.4 and len(there) >= 2
            count = chance.choice([1, 1, 2]) if answered else chance.choice([1, 1, 1, 4])
            body["devices"] = [
                {"device": one} for one in chance.sample(there if answered else self._devices.silent, count)
            ]
        again = chance.random() < 0.1
        answers = [
            self._client.ask("POST", "/v1/claims", body, f"Idempotency-Key: {name}\r\n") for _ in range(1 + again)
        ]
        self.counts["repeated"] += again
        if again and answers[0][0] == answers[1][0] == 201 and answers[0][1]["id"] != answers[1][1]["id"]:
            self._wrong(f"one key gave {answers}")
        for status, claim in answers:
            if status == 201:
                self.counts["granted"] += 1
                self._mine.append(Mine(claim["id"], claim["version"], answered))
                break
            if status != 409 or claim["code"] != "claim.refused":
                self._wrong(f"{status}: {claim}")
            self.counts["refused"] += 1

    def _go_on(self) -> None:
        """Release, renew or provision; with an old version it must be refused."""
        mine = self._mine.pop(self._chance.randrange(len(self._mine)))
        what = self._chance.random()
        if what < 0.1:
            self._ask(mine, "stale", (409,), "DELETE", headers='If-Match: "1"\r\n')
        elif what < 0.2:
            self._ask(mine, "renewed", (200, 409), "POST", "/renew", {"lease_seconds": 30.0})
        elif what < (0.7 if mine.answered else 0.22) and (mine.answered or not self.counts["provisioned_for_good"]):
            # of those that no node answers for one each: what was told stays where it is
            told = self._ask(mine, "provisioned", (202, 409), "POST", "/provision")
            self.counts["provisioned_for_good"] += told and not mine.answered
        else:
            self._ask(mine, "released", (200, 409), "DELETE", keep=False)  # 409: its provision is being undone

    def _ask(
        self,
        mine: Mine,
        name: str,
        allowed: tuple[int, ...],
        method: str,
        path: str = "",
        body: object = None,
        *,
        headers: str = "",
        keep: bool = True,
    ) -> bool:
        """Ask something of a claim; tell whether it was done."""
        status, answer = self._client.ask(method, f"/v1/claims/{mine.claim}{path}", body, headers)
        if keep:
            self._mine.append(mine)
        if status not in allowed:
            self._wrong(f"{status}: {answer}")
        done = status == allowed[0]
        self.counts[name if done else "late"] += 1
        return done
