"""SIGKILL around every durable step of a claim, on either side: everything converges, and nothing was ever two's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.transport import TransportError
from tests.acceptance.stage import PATIENCE, stage, until
from tests.faults.rig import Bench, ask
from tests.hammer.reader import Reader

AGGREGATOR_FAILPOINTS = (
    "claiming.provision.durable",
    "claiming.tell",
    "claiming.report.begun",
    "claiming.report.durable",
)
NODE_FAILPOINTS = (
    "claims.prepare.begun",
    "claims.prepare.done",
    "claims.prepare.kept",
    "claims.undo.begun",
    "claims.undo.kept",
    "claims.clean.begun",
    "claims.clean.done",
    "claims.clean.kept",
)
CONFIG = '[agent]\nonly = ["oracle"]\n[collectors.oracle]\nrate = 0\n[claiming]\nprovision_seconds = 20.0\n'


class Claims(Bench):
    """An aggregator and a simulated node, each started by itself."""

    def say(self, method: str, path: str, body: object = None) -> Any:
        """Ask the aggregator over its socket; None when it does not answer."""
        data = None if body is None else msgspec.json.encode(body)
        try:
            answer = ask(self.socket, method, path, data, content_type="application/json")
        except TransportError:
            return None
        return msgspec.json.decode(answer.body) if answer.body else {}

    def fleet(self, failpoint: str = "") -> None:
        """Start the node."""
        env = {"MUSTER_FAILPOINT": failpoint} if failpoint else {}
        options = ("--nodes", "1", "--interval", "0.5", "--claim-speed", "50", "--linger", "0.1")
        self.muster.start("fleet", *options, env=env, program="collectors.fleet_main")

    def gpus(self) -> list[str]:
        """Wait for the node's GPUs, known and vouched for; give their ids."""

        def known() -> list[dict[str, Any]]:
            answer = self.say("GET", "/v1/devices?kind=gpu") or {}
            found: list[dict[str, Any]] = answer.get("devices", [])
            return found if len(found) == 8 and all(one["reach"] == "live" for one in found) else []

        found = until("eight GPUs", known)
        for one in found:
            self.say("POST", f"/v1/devices/{one['id']}/attest", {"statement": "new from the factory"})
        return [one["id"] for one in found]

    def lifecycles(self, ids: list[str]) -> set[str]:
        """Give what devices are."""
        answer = self.say("GET", "/v1/devices?kind=gpu") or {}
        return {one["lifecycle"] for one in answer.get("devices", []) if one["id"] in ids}

    def go_round(self, ids: list[str], key: str) -> None:
        """Claim, provision and release, as a scheduler does that never gives up: each until it is answered."""
        body = {"tenant": "t", "consumer": key, "devices": [{"device": one} for one in ids], "lease_seconds": 300.0}
        claim = until("the claim", lambda: (self.say("POST", "/v1/claims", body) or {}).get("id"))

        def state() -> str:
            return str((self.say("GET", f"/v1/claims/{claim}") or {}).get("state", ""))

        def active() -> bool:
            self.say("POST", f"/v1/claims/{claim}/provision")
            return state() in ("active", "failed")

        until("the claim's devices", active)
        until("the release", lambda: (self.say("DELETE", f"/v1/claims/{claim}"), state() in ("released", "failed"))[1])
        until("clean devices", lambda: self.lifecycles(ids) == {"free"})

    def judge(self) -> None:
        """Stop everything, and have an independent reader go through the ledger."""
        self.muster.stop()
        reader = Reader().read(self.muster.data_dir / "aggregator" / "ledger.db")
        assert [] == reader.problems
        assert reader.grants


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    """Give an aggregator and what starts nodes."""
    with stage(tmp_path, CONFIG) as muster:
        yield Claims(muster)


def _round(claims: Claims, ids: list[str], victim: str, failpoint: str) -> None:
    """Have a part die on its way through a claim's life, and start it again meanwhile."""
    import threading

    work = threading.Thread(target=claims.go_round, args=(ids, failpoint))
    work.start()
    claims.dies(victim, failpoint, PATIENCE)
    if victim == "fleet":
        claims.fleet()
    else:
        claims.start("aggregator")
    work.join(2 * PATIENCE)
    assert not work.is_alive()
    assert {"free"} == claims.lifecycles(ids)


@pytest.mark.slow
def test_aggregator_killed_around_each_step_converges_and_gives_nothing_twice(claims: Claims) -> None:
    """After the decision and before it is told; before and after a node's word is on disk (invariants 1, 16, 17)."""
    claims.start("aggregator")
    claims.fleet()
    ids = claims.gpus()[:2]
    for failpoint in AGGREGATOR_FAILPOINTS:
        claims.kill("aggregator")
        claims.start("aggregator", failpoint)
        _round(claims, ids, "aggregator", failpoint)
    claims.judge()


@pytest.mark.slow
def test_node_killed_around_each_step_converges_and_gives_nothing_twice(claims: Claims) -> None:
    """Before and after the hook, and once it is on disk and not yet told, of each step (invariants 1, 16, 17)."""
    claims.start("aggregator")
    claims.fleet()
    ids = claims.gpus()[:2]
    for failpoint in NODE_FAILPOINTS:
        claims.kill("fleet")
        claims.fleet(failpoint)
        _round(claims, ids, "fleet", failpoint)
    claims.judge()
