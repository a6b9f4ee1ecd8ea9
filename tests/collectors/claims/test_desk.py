"""The agent's socket: who is on the node confirms what no hook does, and it counts once the device was read."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.claims.command import ask, main
from collectors.claims.desk import desk_path
from collectors.claims.node import NodeClaims
from collectors.claims.options import ClaimsSection
from collectors.claims.order import Order
from schemas.claims import ClaimDevice, ClaimStep, DeviceReport, Step
from tests.acceptance.stage import until

STEP = ClaimStep("c-1", Step.PREPARE, "t", "vm", 1, 5, [
    ClaimDevice("gpu-a", "gpu", "serial:x:1", "0000:01:00.0", "p", "passthrough", 1),
])  # fmt: skip


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeClaims]:
    """Give a node without hooks, told to prepare a device."""
    (tmp_path / "agent").mkdir()

    def perform(order: Order) -> DeviceReport:
        return DeviceReport(order.device.device, True, part=order.device.part, group=1)

    made = NodeClaims(tmp_path, "b1", ClaimsSection(), perform=perform)
    made.start()
    made.worker.set_work([STEP])
    yield made
    made.stop()


def test_socket_is_its_owners_alone_and_shows_what_waits(tmp_path: Path, node: NodeClaims) -> None:
    """0600: nobody else on the node may speak for it."""
    path = desk_path(tmp_path)
    assert node.worker.has_news is False
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    (step,) = ask(path, {"do": "show"})["steps"]
    assert ("gpu-a", "waiting", True) == (step["device"], step["state"], step["waits_for_you"])


def test_confirmation_is_answered_once_the_device_was_read_and_kept(tmp_path: Path, node: NodeClaims) -> None:
    """What it says is on disk by then."""
    assert 0 == main(["confirm", "c-1", "--data-dir", str(tmp_path)])
    assert ["c-1"] == [claim.claim for claim in node.worker.checkpoint().claims]
    until("the report", lambda: node.worker.has_news)


def test_failure_is_told_with_its_reason(tmp_path: Path, node: NodeClaims) -> None:
    """The ledger decides what becomes of it."""
    assert 1 == main(["fail", "c-1", "--problem", "no memory left", "--data-dir", str(tmp_path)])
    (report,) = node.worker.reports() or []
    assert [("gpu-a", False, "no memory left")] == [(one.device, one.done, one.problem) for one in report.devices]


@pytest.mark.parametrize("words", [{"do": "confirm", "claim": "c-9"}, {"do": "boom"}, {"do": "fail", "devices": 3}, []])
def test_what_nobody_waits_for_changes_nothing(tmp_path: Path, node: NodeClaims, words: dict[str, object]) -> None:
    """Neither another claim's confirmation nor nonsense."""
    assert "error" in ask(desk_path(tmp_path), words)
    assert [] == node.worker.checkpoint().claims
