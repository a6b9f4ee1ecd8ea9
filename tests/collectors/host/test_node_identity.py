"""Who a node is: decided once, kept, and never another machine's."""

import json
from pathlib import Path

import pytest

from collectors.node_identity import FILE, NodeIdentity, decide_node_id
from schemas.errors import ConfigError

_UUID = "4c4c4544-0042-3510-8052-b3c04f4b4e32"
_MACHINE = "8f4a1b2c3d4e5f60718293a4b5c6d7e8"


def _machine(root: Path, *, uuid: str = "", serial: str = "", machine_id: str = _MACHINE) -> Path:
    for path, text in {
        "sys/class/dmi/id/product_uuid": uuid,
        "sys/class/dmi/id/chassis_serial": serial,
        "etc/machine-id": machine_id,
        "proc/sys/kernel/hostname": "gpu-7",
        "proc/sys/kernel/random/boot_id": "7D1F6E0A-2F5C-4C6E-9A52-0D4B1C8E3F10",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root


def test_system_uuid_comes_first(tmp_path: Path) -> None:
    root = _machine(tmp_path / "root", uuid=_UUID.upper(), serial="CH7")
    expected = NodeIdentity(_UUID, "gpu-7", _MACHINE, "7d1f6e0a-2f5c-4c6e-9a52-0d4b1c8e3f10", "system_uuid")
    assert expected == decide_node_id(tmp_path / "state", root)


@pytest.mark.parametrize(
    "uuid",
    [
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE",
        "03000200-0400-0500-0006-000700080009",
        "Not Settable",
        "",
    ],
)
def test_placeholder_uuid_is_skipped_for_the_chassis_serial(uuid: str, tmp_path: Path) -> None:
    identity = decide_node_id(tmp_path / "state", _machine(tmp_path / "root", uuid=uuid, serial="CH 7/b"))
    assert ("CH-7-b", "chassis_serial") == (identity.id, identity.decided_by)


@pytest.mark.parametrize(
    "serial", ["To Be Filled By O.E.M.", "Default string", "0", "0000000", "xxxx", "........", "None", "0123456789"]
)
def test_placeholder_serial_is_skipped_for_the_machine_id(serial: str, tmp_path: Path) -> None:
    identity = decide_node_id(tmp_path / "state", _machine(tmp_path / "root", serial=serial))
    assert (_MACHINE, "machine_id") == (identity.id, identity.decided_by)


def test_decision_is_kept_when_firmware_changes_its_mind(tmp_path: Path) -> None:
    first = decide_node_id(tmp_path / "state", _machine(tmp_path / "root", serial="CH7"))
    second = decide_node_id(tmp_path / "state", _machine(tmp_path / "root", uuid=_UUID, serial="CH8"))
    assert first.id == second.id == "CH7"


def test_cloned_disk_does_not_keep_the_others_identity(tmp_path: Path) -> None:
    """A clone gets a machine id of its own; the state folder that came with the disk is another machine's."""
    decide_node_id(tmp_path / "state", _machine(tmp_path / "root", uuid=_UUID))
    other = _UUID.replace("4c4c", "5d5d")
    clone = _machine(tmp_path / "root", uuid=other, machine_id="0" * 31 + "1")
    assert other == decide_node_id(tmp_path / "state", clone).id
    assert other == json.loads((tmp_path / "state" / FILE).read_text())["id"]


def test_configuration_wins_and_is_forgotten_when_it_goes(tmp_path: Path) -> None:
    root = _machine(tmp_path / "root", uuid=_UUID)
    named = decide_node_id(tmp_path / "state", root, "rack7.node3")
    assert ("rack7.node3", "configuration") == (named.id, named.decided_by)
    assert _UUID == decide_node_id(tmp_path / "state", root).id


@pytest.mark.parametrize("configured", ["a b", "-a", "a/b", "ä", "x" * 129, "a\n"])
def test_configured_id_that_cannot_travel_is_refused(configured: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not usable"):
        decide_node_id(tmp_path / "state", _machine(tmp_path / "root"), configured)


def test_second_start_writes_nothing(tmp_path: Path) -> None:
    root = _machine(tmp_path / "root")
    decide_node_id(tmp_path / "state", root)
    before = (tmp_path / "state" / FILE).stat()
    decide_node_id(tmp_path / "state", root)
    assert before.st_ino == (tmp_path / "state" / FILE).stat().st_ino


def test_nothing_else_is_left_in_the_state_folder(tmp_path: Path) -> None:
    decide_node_id(tmp_path / "state", _machine(tmp_path / "root"))
    assert [FILE] == [path.name for path in (tmp_path / "state").iterdir()]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"id": "a/b", "machine_id": "", "decided_by": "x"}', b"\xff\xfe"]
)
def test_spoilt_state_is_a_clear_error_and_no_new_identity(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=r"(?i)remove"):
        decide_node_id(tmp_path, _machine(tmp_path / "root"))
    assert content == (tmp_path / FILE).read_bytes()


def test_state_that_cannot_be_read_or_written_is_a_clear_error(tmp_path: Path) -> None:
    root = _machine(tmp_path / "root")
    (tmp_path / "a" / FILE).mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot read"):
        decide_node_id(tmp_path / "a", root)
    (tmp_path / "b").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="cannot"):
        decide_node_id(tmp_path / "b", root)


def test_machine_that_nothing_identifies_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="systemd-machine-id-setup"):
        decide_node_id(tmp_path / "state", _machine(tmp_path / "root", machine_id="uninitialized"))
