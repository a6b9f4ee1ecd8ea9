"""A drive that is divided (NVMe SR-IOV), read by us and by nvme-cli: its functions are parts of it, never drives.

QEMU's nvme with virtual functions under the guest's own driver. Requirements: R000-1, R000-4.
"""

import json
from typing import Any

import pytest

from tests.vm.emulator import emulator
from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.slow]

DRIVE, SPACE = "nvme:DIVIDED", "nvme-namespace:DIVIDED/1"
FUNCTIONS = ["vf:DIVIDED/0", "vf:DIVIDED/1"]


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    disk = tmp_path_factory.mktemp("drive") / "disk.img"
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    division = "sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=8,max_ioqpairs=10,msix_qsize=10"
    extra = ["-drive", f"file={disk},if=none,format=raw,id=d1"]
    for device in (
        "pcie-root-port,id=rp1,chassis=1,slot=1",
        "nvme-subsys,id=ss0,nqn=ss0",
        f"nvme,serial=DIVIDED,id=nv0,bus=rp1,subsys=ss0,{division}",
        "nvme-ns,drive=d1,bus=nv0,nsid=1",
    ):
        extra += ["-device", device]
    found = {}
    with Machine("python3.11 -m tests.vm.guest.nvme_division", extra=extra, emulator=emulator("igb")) as machine:
        for line in machine.lines(180):
            ((_, what),) = json.loads(line).items()
            found[what["step"]] = what
        assert 0 == machine.exit_status, machine.console
    return found


def _functions(look: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in look["documents"].items() if one["kind"] == "vf"}


@pytest.mark.parametrize("step", ["whole", "made", "online", "bound"])
def test_what_can_be_given_away_is_what_nvme_cli_says(looks: dict[str, Any], step: str) -> None:
    words, theirs = looks[step]["documents"][DRIVE]["capabilities"], looks[step]["theirs"]
    primary, secondary = theirs["primary"], theirs["secondary"]
    for word, kind in (("queues", "vq"), ("interrupts", "vi")):
        total, given, own = (primary[f"{kind}{name}"] for name in ("frt", "rfa", "rfap"))
        assert (total, total - given - own, primary[f"{kind}frsm"]) == tuple(
            words[name] for name in (f"flexible_{word}", f"flexible_{word}_unassigned", f"most_{word}_per_vf")
        )
    online = [one for one in secondary if one["secondary-controller-state"]]
    assert (len(secondary), len(online)) == (words["secondary_controllers"], words["secondary_controllers_online"])
    assert words["flexible_queues"] > 0


@pytest.mark.parametrize("step", ["made", "online", "bound"])
def test_functions_are_what_nvme_cli_says_and_parts_of_their_drive(looks: dict[str, Any], step: str) -> None:
    functions = _functions(looks[step])
    assert FUNCTIONS == sorted(functions)
    secondary = {one["virtual-function-number"]: one for one in looks[step]["theirs"]["secondary"]}
    for index, name in enumerate(FUNCTIONS):
        words, theirs = functions[name]["capabilities"], secondary[index + 1]
        assert (DRIVE, index) == (functions[name]["parent"], words["vf_index"])
        assert (
            theirs["secondary-controller-identifier"],
            bool(theirs["secondary-controller-state"]),
            theirs["num-virtual-queues"],
            theirs["num-virtual-interrupts"],
        ) == tuple(words[word] for word in ("controller_id", "vf_online", "vf_queues", "vf_interrupts"))


def test_function_goes_online_with_what_it_was_given(looks: dict[str, Any]) -> None:
    def told(step: str) -> list[tuple[bool, int, int]]:
        return [
            tuple(one["capabilities"][word] for word in ("vf_online", "vf_queues", "vf_interrupts"))
            for _, one in sorted(_functions(looks[step]).items())
        ]

    assert {} == _functions(looks["whole"])
    assert [(False, 0, 0)] * 2 == told("made")
    assert [(False, 0, 0), (True, 2, 1)] == told("online") == told("bound")


@pytest.mark.parametrize("step", ["whole", "made", "online", "bound"])
def test_there_is_one_drive_and_one_name_space_however_many_reach_it(looks: dict[str, Any], step: str) -> None:
    documents = looks[step]["documents"]
    drives = [name for name, one in documents.items() if one["kind"] == "nvme"]
    spaces = [name for name, one in documents.items() if one["kind"] == "nvme-namespace"]
    assert ([DRIVE], [SPACE]) == (drives, spaces)
    assert DRIVE == documents[SPACE]["parent"]
    serials = {name: one["part"].get("serial", "") for name, one in documents.items()}
    assert [DRIVE] == [name for name, serial in serials.items() if serial == "DIVIDED"]


def test_bound_function_has_rows_of_its_own_and_the_name_spaces_that_it_can_reach(looks: dict[str, Any]) -> None:
    look = looks["bound"]
    words = look["documents"][FUNCTIONS[1]]["capabilities"]
    assert ("nvme1", 1, 16 << 20) == tuple(words[name] for name in ("controller", "namespaces", "capacity_bytes"))
    assert {DRIVE, FUNCTIONS[1]} == look["rows"].keys()
    assert "live" == look["rows"][FUNCTIONS[1]]["state"]
    assert "controller" not in look["documents"][FUNCTIONS[0]]["capabilities"]
