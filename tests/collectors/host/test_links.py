"""Links that go up and down, interfaces that come and go: each change is told once, whoever looks first."""

from pathlib import Path

from collectors.host_network import NetworkSection
from collectors.host_section import HostConfig, Look
from schemas.rows import Event, Reading
from schemas.verbosity import Level

_LOOK = Look(Level.STANDARD, slow=False)
_HEAD = "Inter-|   Receive\n face |bytes\n"


def _machine(root: Path, **links: tuple[str, int]) -> None:
    (root / "proc/net").mkdir(parents=True, exist_ok=True)
    (root / "proc/net/dev").write_text(_HEAD + "".join(f"  {name}: {'1 ' * 16}\n" for name in links))
    for name, (state, changes) in links.items():
        folder = root / "sys/class/net" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in (("operstate", state), ("carrier_changes", changes), ("speed", 25000), ("mtu", 9000)):
            (folder / file).write_text(f"{text}\n")


def _section(root: Path) -> NetworkSection:
    section = NetworkSection(root, HostConfig())
    section.start()
    return section


def _told(events: list[Event]) -> list[tuple[str, object]]:
    return [(event.type, event.detail["interface"]) for event in events]


def test_links_as_they_are_at_start_are_no_events(tmp_path: Path) -> None:
    _machine(tmp_path, eth0=("up", 1), eth1=("down", 1))
    assert [] == _section(tmp_path).changes()


def test_link_down_and_up_are_told_once(tmp_path: Path) -> None:
    """R001-13: state changes are events."""
    _machine(tmp_path, eth0=("up", 1))
    section = _section(tmp_path)
    _machine(tmp_path, eth0=("down", 2))
    assert [("host.link.down", "eth0")] == _told(section.changes())
    assert [] == [item for item in section.read(_LOOK) if isinstance(item, Event)]
    _machine(tmp_path, eth0=("up", 3))
    (event,) = [item for item in section.read(_LOOK) if isinstance(item, Event)]
    assert ("host.link.up", "eth0: link up at 25 Gbit/s") == (event.type, event.message)
    assert [] == section.changes()


def test_link_that_went_and_came_back_unseen_is_told(tmp_path: Path) -> None:
    _machine(tmp_path, eth0=("up", 1))
    section = _section(tmp_path)
    _machine(tmp_path, eth0=("up", 5))
    (event,) = section.changes()
    assert ("host.link.flapped", 4) == (event.type, event.detail["carrier_changes"])


def test_interface_that_comes_and_goes_is_told(tmp_path: Path) -> None:
    _machine(tmp_path, eth0=("up", 1))
    section = _section(tmp_path)
    _machine(tmp_path, eth0=("up", 1), eth1=("up", 1))
    assert [("host.link.new", "eth1")] == _told(section.changes())
    _machine(tmp_path, eth0=("up", 1))
    assert [("host.link.gone", "eth1")] == _told(section.changes())
    assert ["eth0"] == [i.attributes["interface"] for i in section.read(_LOOK) if isinstance(i, Reading)]


def test_excluded_interface_says_nothing(tmp_path: Path) -> None:
    _machine(tmp_path, eth0=("up", 1))
    section = _section(tmp_path)
    _machine(tmp_path, eth0=("up", 1), veth123=("up", 1), lo=("unknown", 0))
    assert [] == section.changes()


def test_state_that_the_driver_does_not_tell_is_absent(tmp_path: Path) -> None:
    _machine(tmp_path, tun0=("unknown", 0))
    (row,) = [item for item in _section(tmp_path).read(_LOOK) if isinstance(item, Reading)]
    assert row.fields["up"] is None
