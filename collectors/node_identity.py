"""Who this node is: decided once, and kept in the state folder beside the machine id that it was decided on."""

import re
import socket
from pathlib import Path
from typing import Final

import msgspec

from collectors._dmi import read_dmi
from collectors._durable import replace_file
from collectors._procfs import read_text
from schemas.errors import ConfigError

FILE: Final = "node.json"
"""The file in the state folder."""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}\Z")


class NodeIdentity(msgspec.Struct, frozen=True):
    """Who a node is."""

    id: str
    """What every row of the node carries; the same for as long as the machine is the same."""
    host_name: str
    """What people call it; may change at any time."""
    machine_id: str
    """The installation's own id (machine-id(5)); "" where there is none."""
    boot_id: str
    """The run of the kernel; "" when it does not say."""
    decided_by: str
    """`configuration`, `system_uuid`, `chassis_serial` or `machine_id`."""


class _Kept(msgspec.Struct):
    """What the state folder holds."""

    id: str
    machine_id: str
    decided_by: str


def decide_node_id(state_dir: Path, root: Path = Path("/"), configured: str = "") -> NodeIdentity:
    """Give the node's identity, and keep it when it was decided anew.

    In order: configuration; what was kept, if it was decided on this machine id; the system UUID (known placeholders
    skipped); the chassis serial; the machine id. What was kept on another machine id belongs to the machine that this
    disk was cloned from, and is decided again; so is what an earlier configuration said and this one does not.

    Raises ConfigError when the state folder cannot be read or written, or nothing identifies this machine.
    """
    machine_id = read_machine_id(root)
    path = state_dir / FILE
    kept = _read(path)
    if configured:
        decided = _Kept(_checked(configured), machine_id, "configuration")
    elif kept is not None and kept.machine_id == machine_id and kept.decided_by != "configuration":
        decided = kept
    else:
        decided = _decide(root, machine_id)
    if decided != kept:
        _write(path, decided)
    return NodeIdentity(decided.id, read_host_name(root), machine_id, read_boot_id(root), decided.decided_by)


def read_machine_id(root: Path = Path("/")) -> str:
    """Give the installation's id, or "" when it has none yet. Source: machine-id(5)."""
    for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
        text = read_text(root / name).lower()
        if _MACHINE_ID.match(text) and text != "0" * 32:
            return text
    return ""


def read_boot_id(root: Path = Path("/")) -> str:
    """Give the id of this run of the kernel, or "" when it does not say. Source: random(4)."""
    return read_text(root / "proc/sys/kernel/random/boot_id").lower()


def read_host_name(root: Path = Path("/")) -> str:
    """Give the machine's name; the system call's word where the root has none."""
    return read_text(root / "proc/sys/kernel/hostname") or read_text(root / "etc/hostname") or socket.gethostname()


def _decide(root: Path, machine_id: str) -> _Kept:
    dmi = read_dmi(root)
    if dmi.uuid:
        return _Kept(dmi.uuid, machine_id, "system_uuid")
    serial = re.sub(r"[^A-Za-z0-9._:-]+", "-", dmi.chassis_serial).strip("-._:")[:128]
    if serial:
        return _Kept(serial, machine_id, "chassis_serial")
    if machine_id:
        return _Kept(machine_id, machine_id, "machine_id")
    raise ConfigError(
        f"nothing identifies this node: {root / 'sys/class/dmi/id'} has no usable UUID or chassis serial, and "
        f"{root / 'etc/machine-id'} holds no id. Run systemd-machine-id-setup, or set the node's id."
    )


def _checked(configured: str) -> str:
    if not _ID.match(configured):
        raise ConfigError(
            f"the configured node id {configured!r} is not usable: 1 to 128 letters, digits and . _ : - after a "
            "letter or digit."
        )
    return configured


def _read(path: Path) -> _Kept | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read who this node is: {error.strerror}. Mend its permissions.") from error
    try:
        kept = msgspec.json.decode(data, type=_Kept)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: does not hold a node's identity ({error}). Restore it, or remove it to have the id decided again."
        ) from None
    if not _ID.match(kept.id):
        raise ConfigError(f"{path}: {kept.id!r} is not a node id. Restore the file, or remove it to decide again.")
    return kept


def _write(path: Path, kept: _Kept) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, msgspec.json.encode(kept) + b"\n", mode=0o644)
    except OSError as error:
        raise ConfigError(f"{path}: cannot keep who this node is: {error.strerror}. Mend the state folder.") from error
