"""Configuration space and vital product data, read from bytes; whatever the bytes are, it ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.pci_config import ConfigFacts, VitalData, parse_config, parse_vpd
from tests.collectors.pci.made import DOWNSTREAM, config_space, vital_data


def facts_of(data: bytes) -> ConfigFacts:
    """Read a space of which these bytes can be had."""
    return parse_config(lambda offset, size: data[offset : offset + size])


def test_all_facts_of_a_switch_port() -> None:
    data = config_space(port_type=DOWNSTREAM, serial=0xB83F_D2FF_FF9E_416C, acs=0x1D)
    assert ConfigFacts(6, "b8-3f-d2-ff-ff-9e-41-6c", True) == facts_of(data)


def test_without_root_nothing_is_known() -> None:
    """The kernel hands out 64 bytes, and the capabilities begin there."""
    assert ConfigFacts() == facts_of(config_space(port_type=4, serial=1, acs=0x1F, size=64))
    assert ConfigFacts(port_type=4) == facts_of(config_space(port_type=4, serial=1, size=256))


@pytest.mark.parametrize(("control", "apart"), [(0x1D, True), (0x5F, True), (0x1C, False), (0x0D, False), (0, False)])
def test_ports_keep_apart_only_with_all_four(control: int, *, apart: bool) -> None:
    assert apart is facts_of(config_space(port_type=DOWNSTREAM, acs=control)).acs


@pytest.mark.parametrize("placeholder", [0, 0xFFFF_FFFF_FFFF_FFFF])
def test_placeholder_is_no_serial(placeholder: int) -> None:
    assert "" == facts_of(config_space(port_type=0, serial=placeholder)).serial


def test_lists_that_are_rings_end() -> None:
    data = bytearray(config_space(port_type=0, serial=7))
    data[0x41] = 0x60
    data[0x100:0x104] = (0x0003 | 1 << 16 | 0x100 << 20).to_bytes(4, "little")
    assert (0, "00-00-00-00-00-00-00-07") == (facts_of(bytes(data)).port_type, facts_of(bytes(data)).serial)


def test_only_what_is_wanted_is_read() -> None:
    """Some devices do not bear that all of their space is read."""
    data = config_space(port_type=DOWNSTREAM, serial=7, acs=0x1D)
    asked: set[int] = set()

    def read(offset: int, size: int) -> bytes:
        asked.update(range(offset, offset + size))
        return data[offset : offset + size]

    parse_config(read)
    assert len(asked) == 0x40 + 2 * 4 + (4 + 8) + (4 + 4)


def test_device_that_is_gone_reads_as_nothing() -> None:
    assert ConfigFacts() == facts_of(b"\xff" * 4096)


@given(st.binary(max_size=512), st.integers(0, 4096))
def test_any_configuration_space_ends(noise: bytes, at: int) -> None:
    data = bytearray(config_space(port_type=4, serial=1, acs=1))
    data[at : at + len(noise)] = noise
    facts = facts_of(bytes(data[:4096]))
    assert facts.port_type is None or 0 <= facts.port_type <= 15


def test_vital_data_of_a_card() -> None:
    data = vital_data("ConnectX-6 Dx EN", PN="MCX623106AN-CDAT", EC="A6", SN="MT2048X12345", V0="PCIeGen4 x16")
    assert VitalData("ConnectX-6 Dx EN", "MCX623106AN-CDAT", "MT2048X12345", "A6") == parse_vpd(data)


def test_writable_part_changes_nothing() -> None:
    data = vital_data(SN="A1")[:-1] + b"\x91\x05\x00SN\x02B2\x78"
    assert "A1" == parse_vpd(data).serial


def test_vital_data_cut_short_give_what_came_before() -> None:
    assert VitalData("ConnectX-6 Dx EN", "P1") == parse_vpd(vital_data(PN="P1", SN="MT2048X12345")[:-8])


def test_text_that_no_label_holds_is_none() -> None:
    assert VitalData("ConnectX-6 Dx EN") == parse_vpd(vital_data(SN="\x01\x02\x03"))
    assert "A B" == parse_vpd(vital_data(SN=" A  B\0\0")).serial


@given(st.binary(max_size=300))
def test_any_vital_data_end(noise: bytes) -> None:
    found = parse_vpd(noise)
    assert all(text.isprintable() for text in (found.name, found.part_number, found.serial, found.revision))
