"""What the kernel answers is read: every fact of a function, and answers that are longer than their own length."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.sriov.kernel import read_link
from collectors.sriov.netlink import WITH_VFS, WITHOUT_COUNTERS, Counters, NetlinkError, parse_links, request
from tests.collectors.sriov.made import Answers, answer, attribute, refusal, vf_entry

COUNTS = (1, 2, 3, 4, 5, 6, 7, 8)


def test_every_fact_of_a_function_is_read() -> None:
    entry = vf_entry(
        3, mac="02:00:00:00:0a:03", vlan=301, qos=3, protocol=0x88A8, rates=(10, 100), trust=1, state=2, counts=COUNTS
    )
    (link,) = parse_links(answer(4, vfs=[entry]))
    (vf,) = link.vfs
    assert (3, "02:00:00:00:0a:03", 301, 3, "802.1ad") == (vf.index, vf.mac, vf.vlan, vf.vlan_qos, vf.vlan_protocol)
    assert (10, 100, True, True, "disable") == (
        vf.min_rate_mbps,
        vf.max_rate_mbps,
        vf.spoof_check,
        vf.trust,
        vf.link_state,
    )
    assert vf.rss_query is None, "what the driver was not asked stands as all ones"
    assert Counters(1, 2, 3, 4, 5, 6, 7, 8) == vf.counters


def test_interface_is_read() -> None:
    (link,) = parse_links(answer(4, "ens1f0", permanent="b8:3f:d2:9e:41:6d", carrier=0))
    assert (4, "ens1f0", 1500, False, 2) == (link.index, link.name, link.mtu_bytes, link.up, link.carrier_downs)
    assert ("b8:3f:d2:9e:41:6c", "b8:3f:d2:9e:41:6d") == (link.mac, link.permanent_mac)
    assert Counters(10, 20, 1000, 2000, None, 5, 3, 4) == link.counters


def test_mac_that_was_not_given_is_absent() -> None:
    (link,) = parse_links(answer(4, vfs=[vf_entry(0)]))
    assert "" == link.vfs[0].mac


@pytest.mark.parametrize("count", [1, 200, 221, 222, 223, 256, 512])
def test_list_longer_than_its_length_can_say_is_read_to_its_end(count: int) -> None:
    """R000-1: a list of 256 functions is longer than the 16 bits in which its length is written."""
    vfs = [vf_entry(index, vlan=index + 1, counts=(index,) * 8) for index in range(count)]
    (link,) = parse_links(answer(4, vfs=vfs, after=attribute(38, b"p0\0")))
    assert list(range(1, count + 1)) == [vf.vlan for vf in link.vfs]
    assert "p0" == link.port_name, "what comes after the list is read too"


def test_answer_that_does_not_fit_is_asked_for_without_counters() -> None:
    answers = Answers()
    answers.links[4] = refusal(errno.EMSGSIZE)
    answers.without_counters[4] = answer(4, vfs=[vf_entry(index, counts=None) for index in range(300)])
    link = read_link(answers, 4)
    assert [(4, WITH_VFS), (4, WITH_VFS | WITHOUT_COUNTERS)] == answers.asked
    assert 300 == len(link.vfs)
    assert {None} == {vf.counters for vf in link.vfs}


def test_refusal_is_an_error_with_its_number() -> None:
    with pytest.raises(OSError, match="refuses") as caught:
        parse_links(refusal(errno.ENODEV))
    assert errno.ENODEV == caught.value.errno


def test_request_asks_for_one_interface() -> None:
    assert (len(request(7, WITH_VFS, 1)), 18) == (
        int.from_bytes(request(7, WITH_VFS, 1)[:4], "little"),
        request(7, WITH_VFS, 1)[4],
    )


@given(st.binary(max_size=400), st.integers(0, 1500))
def test_whatever_comes_is_read_or_refused(noise: bytes, at: int) -> None:
    sound = answer(4, vfs=[vf_entry(0, counts=COUNTS), vf_entry(1)])
    for data in (noise, sound[:at] + noise, sound[:at] + noise + sound[at + len(noise) :]):
        try:
            parse_links(data)
        except (NetlinkError, OSError):
            continue


ENTRIES = st.builds(
    lambda index, mac, vlan, counts, changed, after: _changed(
        vf_entry(index, mac=mac, vlan=vlan, counts=counts), changed, after
    ),
    st.integers(0, 2),
    st.sampled_from(("00:00:00:00:00:00", "02:00:00:00:0a:03")),
    st.integers(0, 1),
    st.sampled_from((None, (0,) * 8, COUNTS, (1 << 63,) * 8)),
    st.one_of(st.none(), st.tuples(st.integers(4, 320), st.sampled_from((0, 1, 4, 8, 12, 255)))),
    st.sampled_from((b"", b"", attribute(10, bytes(8) + b"\1" * 8), attribute(4, b"\0" * 8), attribute(8, b""))),
)


def _changed(entry: bytes, changed: tuple[int, int] | None, after: bytes) -> bytes:
    """Give a function's entry with more behind its counters, and one byte that is another."""
    content = bytearray(entry[4:] + after)
    if changed is not None and changed[0] < len(content):
        content[changed[0]] = changed[1]
    return attribute(1, bytes(content))


def _read(entries: list[bytes]) -> object:
    try:
        return [vf for link in parse_links(answer(4, vfs=entries)) for vf in link.vfs]
    except NetlinkError:
        return None


@given(st.lists(ENTRIES, min_size=1, max_size=6))
def test_function_is_read_alike_whichever_were_read_before_it(entries: list[bytes]) -> None:
    alone = [_read([entry]) for entry in entries]
    expected = None if None in alone else [vf for found in alone for vf in found]  # type: ignore[attr-defined]
    assert expected == _read(entries) == _read(entries)
