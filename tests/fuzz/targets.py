"""What reads bytes from elsewhere, and how: for each reader sound seeds, and the errors that it may raise.

Whoever writes a parser adds one line to `TARGETS`.
"""

from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import msgspec

from aggregator.expression import ExpressionError, compile_expression
from aggregator.expression.names import inventory_environment
from aggregator.expression.pattern import search_of
from aggregator.expression.pattern_syntax import PatternError
from collectors._smbios import parse_structure
from collectors._uevents import parse_uevent
from collectors.expectation import ExpectationError, parse_expectations
from collectors.log_rules.teller import Teller
from collectors.log_storm import Storms
from collectors.nvme import identify, logs
from collectors.nvme.ocp import parse_ocp
from collectors.nvme.virtualization import parse_primary, parse_secondary
from collectors.pci_config import parse_config, parse_vpd
from collectors.redfish.resource import UnreadableError
from collectors.sriov import ethtool
from collectors.sriov.ears import interface_indexes
from collectors.sriov.genetlink import parse_messages
from collectors.sriov.netlink import NetlinkError, parse_links
from collectors.syslog_framing import Framer
from collectors.syslog_journal_entry import oversized_record, read_record
from collectors.syslog_kmsg import KernelLog, RecordedReader
from collectors.syslog_listener import Counts
from collectors.syslog_parser import Parser
from collectors.syslog_rows import Rows
from collectors.vnics import VnicsError, parse_vnics
from schemas.account import Account, Dropped, EpochAccount, StreamAccount
from schemas.batch import Block, Envelope
from schemas.codec import check_batch, decode_batch, decode_body, encode_batch, encode_body
from schemas.device import DeviceKind, Document, decode_document, encode_document, pci_address
from schemas.errors import WireError
from schemas.publish import Result, Status, decode_answer, decode_request, encode_answer, encode_request
from schemas.rows import Parcel
from schemas.structured_data import decode_structured_data
from schemas.verbosity import Level, RowClass
from tests.collectors.nvme import made as nvme
from tests.collectors.pci.made import config_space, slot_structure, vital_data
from tests.collectors.push.made import pushed_lines
from tests.collectors.redfish import fuzzed as redfish
from tests.collectors.redfish import fuzzed_readings as readings
from tests.collectors.sriov import cards as devlink
from tests.collectors.sriov import made as sriov


class Target(msgspec.Struct, frozen=True):
    """One reader of bytes."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    """Sound inputs, from which others are made."""
    errors: tuple[type[Exception], ...]
    """What it may raise; anything else is a find."""


_block = Block(
    "gpu",
    "node-1",
    ["link"],
    [["gpu:0", "a"], ["gpu:1", "b"]],
    [0, 1, 0],
    1_700_000_000_000_000_000,
    [0, 5, 7],
    floats={"power_watts": [1.5, None, 3.0]},
    ints={"memory_bytes": [1, 2**63, None]},
    bools={"persistent": [True, None, False]},
    strings={"state": ["P0", None, "\N{SNOWMAN}"]},
)
_stream = StreamAccount(RowClass.LOG, Level.DEBUG, 9, 1, 0, 8, [(0, 3)], [Dropped("spool_full", [(5, 8)])])
_account = Account(4, [EpochAccount("e1", "b1", [_stream])])
_envelope = Envelope("node-1", "e1", RowClass.TELEMETRY, Level.STANDARD, 0, 3, 1, 5, "g", _account, "d")
_batch = encode_batch(_envelope, encode_body([_block]))
_heartbeat = encode_batch(Envelope("n", "e", RowClass.EVENT, Level.ESSENTIAL, 0, 0, 0), b"")
_raw = msgspec.msgpack.encode([_block, _block])


def _body_of(raw: bytes) -> object:
    """Read a body whose frame is sound and whose blocks are whatever they are: mutations get past the checksum."""
    import zstandard

    return decode_body(zstandard.ZstdCompressor().compress(raw))


def _frames_of(data: bytes) -> object:
    """Cut a stream into messages, at once and in pieces: the same messages, and no more bytes than came."""
    whole, pieces = Framer(100), Framer(100)
    found = whole.feed(data) + whole.close(orderly=True)
    again = [one for at in range(0, len(data), 7) for one in pieces.feed(data[at : at + 7])]
    assert whole.broken or found == again + pieces.close(orderly=True)
    return found


def _journal_of(data: bytes) -> object:
    """Read a line of journalctl; whatever it is, what comes of it can be sent."""
    record = read_record(data, 100)
    return (record and (record.text or "").encode()), oversized_record(data).cursor.encode()


_inventory = inventory_environment()


def _expression_of(data: bytes) -> object:
    """Compile, and evaluate on nothing: neither may fail or take long."""
    expression = compile_expression(data.decode("utf-8", "replace"), _inventory)
    return expression.on_objects("device", "node", "claim")(None, None, None), str(expression)


def _pattern_of(data: bytes) -> object:
    """Search a text with itself as the pattern."""
    text = data.decode("utf-8", "replace")
    return search_of(text)[0](text)


def _syslog_of(data: bytes) -> object:
    """Parse, and make blocks that travel."""
    rows, counts = Rows("node-1", lambda: 10**18), Counts()
    Parser(lambda: 10**18, UTC).parse([data, data[: len(data) // 2]], "udp", rows, counts)
    return [encode_body([item.block]) for item in rows.take() if isinstance(item, Parcel)]


def _kernel_of(data: bytes) -> object:
    """Read records, and make events of them."""
    rows = Rows("node-1", lambda: 10**18, Storms(1, 10.0, lambda: 0.0))
    log = KernelLog(RecordedReader(data), Path("/nonexistent"), None, Counts(), teller=Teller(lambda _kind, name: name))
    for _ in range(3):
        log.read(rows)
    log.finish(rows)
    log.close()
    return rows.finish()


TARGETS: dict[str, Target] = {
    "body": Target(decode_body, (encode_body([_block]), encode_body([])), (WireError,)),
    "blocks": Target(_body_of, (_raw,), (WireError,)),
    "batch": Target(lambda data: check_batch(decode_batch(data)), (_batch, _heartbeat), (WireError,)),
    "request": Target(decode_request, (encode_request("n", "e", "b", ["p"], "h", [_batch]),), (WireError,)),
    "answer": Target(
        decode_answer, (encode_answer([Result(Status.ACCEPTED), Result(Status.RETRY, "x")]),), (WireError,)
    ),
    "document": Target(
        lambda data: decode_document(data.decode("utf-8", "replace")),
        (
            encode_document(
                Document("gpu:0", DeviceKind.GPU, capabilities={"memory_bytes": 5, "modes": ["a"]})
            ).encode(),
        ),
        (msgspec.ValidationError, msgspec.DecodeError),
    ),
    "pci_config": Target(
        lambda data: parse_config(lambda offset, size: data[offset : offset + size]),
        (config_space(port_type=5, serial=0xB83F_D2FF_FF9E_416C, acs=0x1D), config_space(port_type=0, size=256)),
        (),
    ),
    "pci_vpd": Target(parse_vpd, (vital_data(PN="MCX623106AN-CDAT", SN="MT2048X12345"),), ()),
    "uevent": Target(parse_uevent, (b"add@/devices/pci0000:00/0000:00:02.1\0ACTION=add\0SUBSYSTEM=pci\0",), ()),
    "nvme_identify": Target(
        lambda data: [
            identify.parse_controller(data),
            identify.parse_namespace(data),
            identify.parse_active_list(data),
        ],
        (nvme.controller(), nvme.namespace()),
        (),
    ),
    "nvme_descriptors": Target(identify.parse_uuid, (bytes((3, 16, 0, 0, *range(16), 1, 8, 0, 0, *range(8))),), ()),
    "nvme_logs": Target(
        lambda data: [
            logs.parse_smart(data),
            logs.parse_errors(data),
            logs.parse_firmware(data),
            logs.parse_self_test(data),
            logs.parse_sanitize(data),
            parse_ocp(data),
        ],
        (nvme.smart(), nvme.self_test_log((2, 7, 40)), nvme.ocp_log(), nvme.error_log((7, 0x281), size=4)),
        (),
    ),
    "syslog_frames": Target(_frames_of, (b"25 <13>1 - web1 app - - - hi<14>a line\n", b"200 <13>" + b"x" * 300), ()),
    "journal_record": Target(
        _journal_of,
        (
            b'{"__CURSOR":"s=fe39;i=3;b=9cd8;m=63;t=66;x=8c","MESSAGE":[97,255,10],"PRIORITY":"3","_PID":["1","2"]}',
            b'{"__CURSOR":"s=fe39;i=4;b=9c","MESSAGE":[null,"again"],"N_DROPPED":"12","__REALTIME_TIMESTAMP":"1795290"}',
        ),
        (),
    ),
    "rtnetlink": Target(
        lambda data: [parse_links(data), interface_indexes(data)],
        (
            sriov.answer(4, permanent="02:11:22:33:44:55", vfs=[sriov.vf_entry(0, vlan=7, counts=tuple(range(8)))]),
            sriov.answer(5),
        ),
        (NetlinkError, OSError),
    ),
    "devlink": Target(
        lambda data: list(parse_messages(data)),
        devlink.recorded_bytes(),
        (NetlinkError,),
    ),
    "nvme_division": Target(
        lambda data: [parse_primary(data), parse_secondary(data)],
        (nvme.primary(), nvme.secondary((8, 1, 2, 3, 2), (7, 0, 1, 0, 0))),
        (),
    ),
    "ethtool": Target(
        lambda data: [
            ethtool.parse_driver(data),
            ethtool.parse_count(data),
            ethtool.parse_names(data),
            ethtool.parse_values(data),
            ethtool.parse_features(data, ["rx-gro", "tx-lso"] * 20),
        ],
        (bytes(range(200)), b"\x1d\0\0\0\x02\0\0\0" + bytes(16)),
        (),
    ),
    "expectations": Target(
        parse_expectations,
        (b'[[expect]]\nkind = "vf"\ncount = 4\nmatch = {vlan = 3}\nmust = {spoof_check = true}\n',),
        (ExpectationError,),
    ),
    "vnics": Target(
        parse_vnics, (b'[{"vnicId": "a", "macAddr": "02:00:17:05:D1:DB", "vlanTag": 3, "nicIndex": 1}]',), (VnicsError,)
    ),
    "pushed": Target(
        pushed_lines,
        (
            b'my_app,worker=3,host=db\\ 1 depth=5i,load=1.5e3,up=t,text="a \\"b\\" c" 1700000000000000000',
            b"roof,device=roof temperature_celsius=21.5,total=18446744073709551615u",
            b'{"event": {"type": "a.b", "message": "c", "severity": "error", "detail": {"d": 1, "e": null}}}',
            b'{"device": {"id": "roof", "part": {"serial": "7"}, "capabilities": {"a": [1], "b": ["x"]}}}',
            b'{"withdraw": "roof"}',
        ),
        (),
    ),
    "http_answer": Target(readings.read_answer, readings.ANSWERS, (OSError,)),
    "redfish_rows": Target(readings.read_rows, readings.MACHINES, (UnreadableError,)),
    "redfish_stream": Target(redfish.read_stream, redfish.STREAMS, ()),
    "redfish_log": Target(redfish.read_log, redfish.LOGS, (UnreadableError,)),
    "redfish_resources": Target(redfish.read_resources, redfish.RESOURCES, (UnreadableError,)),
    "smbios": Target(
        lambda data: (found := parse_structure(data, 9)) and (found.text(4), found.word(0x0D), found.byte(0x10)),
        (slot_structure("CPU1 SLOT4", "0000:01:00.0"),),
        (),
    ),
    "syslog": Target(
        _syslog_of,
        (
            b'<165>1 2003-10-11T22:14:15.003Z host app 7 ID47 [ex@32473 iut="3"][p@1 c="h\\]"] \xef\xbb\xbfAn entry',
            b"<34>Oct 11 22:14:15 mymachine su[231]: 'su root' failed",
            b"<189>45: sw1: *Jan  2 2024 03:04:05.123 UTC: %SYS-5-CONFIG_I: Configured",
            b"<30>2024-01-02T03:04:05.678901+01:00 web1 nginx: x",
        ),
        (),
    ),
    "kernel_log": Target(
        _kernel_of,
        (
            b"3,1,5000,-;NVRM: Xid (PCI:0018:01:00 GPU-I:05): 149, pid=7, name=a, N Fatal XC0 i0 Link 9 (0x1)\n",
            (
                b"4,2,5000,-;igb 0000:09:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)\n"
                b" SUBSYSTEM=pci\n DEVICE=+pci:0000:09:00.0\n"
                b"4,3,5001,-;igb 0000:09:00.0:   device [8086:1537] error status/mask=00000080/00002000\n"
            ),
            b"3,9,6000,-;Memory cgroup out of memory: Killed process 8 (a) total-vm:9kB, anon-rss:8kB, UID:1\n",
            b"6,5,6001,-;mlx5_core 0000:3b:00.0 eth2: Link down\\x0a\n",
        ),
        (),
    ),
    "structured_data": Target(
        lambda data: decode_structured_data(data.decode("utf-8", "replace")),
        (b'[ex@32473 iut="3" a="\\"\\]"][b]',),
        (ValueError,),
    ),
    "expression": Target(
        _expression_of,
        (
            b'device.kind == "gpu" && device.capabilities.memory_bytes >= quantity("40GiB") || !has(node.labels.rack)',
            b'device.taints.exists(t, t.since > timestamp("2026-01-31T12:00:00Z")) ? -1 + 2 * 3 > 0 : node.live',
            b"claim.consumer.matches(r'^(a|b)*[c-e]{2,3}\\d$') && size(claim.nodes) in [1, 0x2] && 1.5e1 < double(3)",
        ),
        (ExpressionError,),
    ),
    "pattern": Target(
        _pattern_of, (rb"(?i)^(a|b)*[^c-e]{2,3}\d\b.+?$", rb"(?:Xid|NVRM) .*: [[:alpha:]]"), (PatternError,)
    ),
    "pci_address": Target(
        lambda data: pci_address(data.decode("utf-8", "replace")), (b"0000:3b:00.0", b"00000000:3B:00.0"), (ValueError,)
    ),
}
"""By name."""
