"""What a port gave a function is read back for the ledger; what cannot be read proves nothing."""

from pathlib import Path

import pytest

from collectors.sriov.evidence import Shown, shown
from tests.collectors.sriov.made import PORT, Answers, answer, interface, port, vf, vf_entry

FUNCTION, OTHER = "0000:3b:00.4", "0000:3b:00.2"


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """Give the kernel of a machine whose functions are at addresses that are not in the order of their index."""
    port(tmp_path)
    interface(tmp_path, PORT, "ens1f0", 4)
    vf(tmp_path, PORT, 0, FUNCTION, driver="vfio-pci")
    vf(tmp_path, PORT, 1, OTHER, driver="vfio-pci")
    made = Answers()
    made.links[4] = answer(
        4, vfs=[vf_entry(0, mac="02:00:00:00:00:0a", vlan=301), vf_entry(1, mac="02:00:00:00:00:0b", vlan=302)]
    )
    return made


def test_vlan_and_mac_are_those_of_the_function_at_the_address(tmp_path: Path, answers: Answers) -> None:
    found = [shown(tmp_path, address, lambda _: answers) for address in (FUNCTION, OTHER)]
    assert [Shown(301, "02:00:00:00:00:0a"), Shown(302, "02:00:00:00:00:0b")] == found
    assert 2 == answers.closed, "nothing is left open"


def test_what_cannot_be_told_is_absent(tmp_path: Path, answers: Answers) -> None:
    assert Shown() == shown(tmp_path, PORT, lambda _: answers), "a port is no function of another"
    assert Shown() == shown(tmp_path, "0000:ff:00.0", lambda _: answers)
    assert Shown() == shown(tmp_path, FUNCTION), "a recorded machine's kernel says nothing"
    answers.links.clear()
    assert Shown() == shown(tmp_path, FUNCTION, lambda _: answers)
