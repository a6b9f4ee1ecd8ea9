"""The collector where it works: in a helper of the agent, against a systemd that speaks D-Bus."""

from pathlib import Path

import msgspec

from collectors.status import CollectorSetup, State
from schemas.verbosity import RowClass
from tests.collectors.runtime.rig import FAST, Rig, running
from tests.collectors.service.fake_systemd import FakeSystemd


def _told(rig: Rig) -> list[str]:
    parcels = [parcel for parcel in rig.intake.parcels("service") if parcel.row_class is RowClass.EVENT]
    return [text for parcel in parcels for text in parcel.block.strings["type"] if text]


def test_units_are_told_and_counted_through_the_whole_runtime(tmp_path: Path) -> None:
    """R001-11, R001-13: custom services: up, down, new, restarted."""
    options = msgspec.structs.replace(FAST, root=tmp_path)
    with FakeSystemd(tmp_path, {"a.service": "active", "b.service": "active"}) as systemd:
        systemd.restarts = {"b.service": 0}
        with running(CollectorSetup(name="service", interval=0.2), options=options) as rig:
            rig.until(lambda: rig.intake.values("service", "units"))
            rig.until(lambda: len(rig.intake.values("service", "state")) == 2)
            systemd.change("a.service", "inactive")
            systemd.change("c.service", "active")
            systemd.change("b.service", "activating", "auto-restart")
            systemd.count("b.service", 1)
            expected = ["down", "new", "up", "restarted"]
            rig.until(lambda: len(_told(rig)) == len(expected))
            assert sorted(f"systemd.unit.{word}" for word in expected) == sorted(_told(rig))
            assert "machine" == rig.status("service").group
            systemd.hang_up()
            rig.until(lambda: systemd.calls.count("ListUnits") == 2)
            assert State.RUNNING is rig.status("service").state


def test_machine_without_systemd_keeps_no_helper_for_it(tmp_path: Path) -> None:
    options = msgspec.structs.replace(FAST, root=tmp_path)
    with running(CollectorSetup(name="service", interval=0.2), options=options) as rig:
        rig.until(lambda: rig.status("service").state is State.NO_DATA)
        rig.until(lambda: rig.status("service").helper_pid is None)
