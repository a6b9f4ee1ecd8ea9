"""What drives answered once, decoded, is what another program printed of them then."""

import base64
import json
import zlib
from pathlib import Path

import pytest

from collectors.nvme import logs
from collectors.nvme.identify import parse_active_list, parse_controller, parse_namespace

CASES = Path(__file__).parents[2] / "cases" / "nvme"
_NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir())


def _pages(name: str) -> dict[str, bytes]:
    told = json.loads((CASES / name / "pages.json").read_text())
    return {command: zlib.decompress(base64.b85decode(text)) for command, text in told.items()}


@pytest.mark.parametrize("name", _NAMES)
def test_controller_and_name_space_are_what_nvme_cli_printed(name: str) -> None:
    """R000-4."""
    pages, theirs = _pages(name), json.loads((CASES / name / "nvme_cli.json").read_text())
    controller, told = parse_controller(pages["identify 1 0"]), theirs["controller"]
    assert controller is not None
    assert (told["sn"].strip(), told["mn"].strip(), told["fr"].strip(), told["subnqn"]) == (
        *(controller.serial, controller.model, controller.firmware, controller.subsystem),
    )
    assert (told["cntlid"], told["nn"], told["elpe"] + 1, told["oaes"]) == (
        *(controller.controller_id, controller.most_namespaces, controller.error_log_entries, controller.async_events),
    )
    assert (told["wctemp"] - 273, told["cctemp"] - 273) == (controller.warning_celsius, controller.critical_celsius)
    assert (bool(told["oacs"] & 2), bool(told["oacs"] & 16), bool(told["sanicap"] & 7)) == (
        *(controller.can_format, controller.can_self_test, bool(controller.sanitize)),
    )
    assert [1] == parse_active_list(pages["identify 2 0"])
    namespace, told = parse_namespace(pages["identify 0 1"]), theirs["namespace"]
    assert namespace is not None
    assert (told["nsze"], told["ncap"], told["nuse"]) == (
        *(namespace.sectors, namespace.capacity_sectors, namespace.used_sectors),
    )
    assert [f"{1 << one['ds']}+{one['ms']}" for one in told["lbafs"]] == [one.words for one in namespace.formats]
    assert namespace.format == namespace.formats[told["flbas"] & 15]
    assert (told["nguid"].strip("0"), told["eui64"].strip("0")) == (
        namespace.nguid.strip("0"),
        namespace.eui64.strip("0"),
    )


@pytest.mark.parametrize("name", _NAMES)
def test_health_is_what_nvme_cli_printed(name: str) -> None:
    smart = logs.parse_smart(_pages(name)["log 02"])
    told = json.loads((CASES / name / "nvme_cli.json").read_text())["smart"]
    assert smart is not None
    assert (told["temperature"] - 273, told["critical_warning"], told["avail_spare"], told["percent_used"]) == (
        *(smart.temperature_celsius, smart.critical_warning, smart.spare_percent, smart.used_percent),
    )
    names = ("data_units_read", "data_units_written", "host_read_commands", "host_write_commands", "power_on_hours")
    assert [int(told[one]) for one in names] == [
        *(smart.data_units_read, smart.data_units_written, smart.read_commands, smart.write_commands),
        smart.power_on_hours,
    ]


@pytest.mark.parametrize("name", _NAMES)
def test_case_says_where_it_is_from(name: str) -> None:
    assert (CASES / name / "ORIGIN").read_text().strip()
