"""The collector as the host sees it: what it promises whatever the machine and the configuration are."""

import logging
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors import syslog as module
from collectors.contract import Context, Probes, Watches
from collectors.syslog import SyslogCollector
from collectors.syslog_config import SyslogConfig
from schemas.errors import NoDataError, PartialCollectError, StartupError
from schemas.metrics import Catalogue
from schemas.rows import LOG_METRICS, Reading
from tests.certificates import Authority
from tests.collectors.syslog.harness import Running
from tests.collectors.syslog.test_journal import Fake
from tests.collectors.syslog.test_kmsg import machine, record
from tests.ports import free_port

NOWHERE = "192.0.2.1:5514"
"""An address of documentation (RFC 5737), which no machine has."""


def made(config: SyslogConfig, root: Path = Path("/nonexistent")) -> SyslogCollector:
    return SyslogCollector(config, Context(subject="node-1", log=logging.getLogger("test"), root=root))


def test_it_watches_and_probes() -> None:
    collector = made(SyslogConfig())
    assert isinstance(collector, Watches)
    assert isinstance(collector, Probes)


def test_every_value_that_is_told_is_declared(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).certificate()
    config = SyslogConfig(
        udp=f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}",
        tls=f"127.0.0.1:{free_port()}",
        tls_certificate=str(certificate),
        tls_key=str(key),
        tls_clients="none",
        journald=True,
        tcp=f"127.0.0.1:{free_port()}",
        unix_datagram=str(tmp_path / "datagram"),
        unix_stream=str(tmp_path / "stream"),
    )
    catalogue = Catalogue((*SyslogCollector.METRICS, *LOG_METRICS))
    told: set[str] = set()
    Fake(machine(tmp_path, record(1)))
    with Running(config, tmp_path) as running:
        for reading in running.collector.collect():
            assert catalogue.attributes(reading.measurement) == tuple(reading.attributes)
            told.update(reading.fields)
    assert set(catalogue.fields("syslog")) == told


@pytest.mark.parametrize("order", ["stop", "start stop stop", "start start stop", "start stop start collect stop"])
def test_every_order_of_calls_is_safe(tmp_path: Path, order: str) -> None:
    collector = made(SyslogConfig(), machine(tmp_path, record(1)))
    for call in order.split():
        result: Any = getattr(collector, call)()
        if call == "collect":
            assert [True] == [reading.fields["listening"] for reading in result]


def test_start_that_failed_may_be_called_again() -> None:
    port = free_port(socket.SOCK_DGRAM)
    collector = made(SyslogConfig(kmsg=False, udp=f"127.0.0.1:{port}"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
        with pytest.raises(StartupError):
            collector.start()
    collector.start()
    collector.stop()


def test_one_listener_that_fails_leaves_the_others_at_work() -> None:
    """Promise 5: one bad target harms only itself, and says so (an event, a reading, a partial collection)."""
    port = free_port(socket.SOCK_DGRAM)
    config = SyslogConfig(kmsg=False, udp=(f"127.0.0.1:{port}", NOWHERE))
    with Running(config) as running:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"<13>x", ("127.0.0.1", port))
        running.wait_for_rows(1)
        readings: list[Reading] = []
        with pytest.raises(PartialCollectError, match="does not have that address") as error:
            readings.extend(running.collector.collect())
    assert 1 == error.value.failed
    with pytest.raises(PartialCollectError):
        for reading in running.collector.collect():
            readings.append(reading)
    (event,) = running.events()
    assert ("syslog.listener.down", {"listener": f"udp:{NOWHERE}"}) == (event.type, event.detail)


def test_listener_that_failed_is_tried_again_and_its_return_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY", 0.1)
    first, second = free_port(), free_port()
    config = SyslogConfig(kmsg=False, tcp=(f"127.0.0.1:{first}", f"127.0.0.1:{second}"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", second))
        other.listen()
        running = Running(config)
        running.__enter__()
    try:
        running.wait_for(lambda: len(running.events()) == 2, "the listener's return")
        with socket.create_connection(("127.0.0.1", second)) as sock:
            sock.sendall(b"<13>x\n")
        running.wait_for_rows(1)
        assert [True, True] == [reading.fields["listening"] for reading in running.collector.collect()]
    finally:
        running.__exit__(None, None, None)
    assert ["syslog.listener.down", "syslog.listener.up"] == [event.type for event in running.events()]


def test_device_that_fails_while_it_is_read_is_given_up_and_told(tmp_path: Path) -> None:
    """A kernel log that answers EIO: an event, and the other listeners go on."""
    root = machine(tmp_path, record(1))
    port = free_port(socket.SOCK_DGRAM)
    running = Running(SyslogConfig(udp=f"127.0.0.1:{port}"), root)
    running.collector.start()
    log = running.collector._open["kmsg"]
    log._reader._records = []  # type: ignore[attr-defined]
    log._reader.read = _fail  # type: ignore[attr-defined]
    running._thread.start()
    running.wait_for(lambda: bool(running.events()), "the event")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"<13>x", ("127.0.0.1", port))
    running.wait_for_rows(1)
    running.__exit__(None, None, None)
    assert ["no logs come in by kmsg: kmsg failed: Input/output error"] == [each.message for each in running.events()]


def _fail() -> bytes:
    raise OSError(5, "Input/output error")


def test_machine_without_kernel_log_is_a_fact_and_no_failure() -> None:
    with pytest.raises(NoDataError, match="no kernel log"):
        made(SyslogConfig()).start()
    config = SyslogConfig(udp=f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}")
    with Running(config) as running:
        assert 1 == len(list(running.collector.collect()))
    assert [] == running.events()


def test_nothing_to_listen_on_is_no_data() -> None:
    with pytest.raises(NoDataError, match="no log is configured"):
        made(SyslogConfig(kmsg=False)).start()


def test_probe_says_what_is_missing(tmp_path: Path) -> None:
    assert "there is no kernel log at /nonexistent/dev/kmsg" == made(SyslogConfig()).probe()
    assert "" == made(SyslogConfig(), machine(tmp_path, record(1))).probe()
    assert "" == made(SyslogConfig(udp="127.0.0.1:5514")).probe()
    assert "no log is configured" in made(SyslogConfig(kmsg=False)).probe()


def test_watch_ends_within_a_second_when_nothing_comes(tmp_path: Path) -> None:
    with Running(SyslogConfig(), machine(tmp_path, record(1))) as running:
        running.wait_for_rows(1)
        assert running.end_watch() < 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"udp": "5514"},
        {"udp": "127.0.0.1"},
        {"udp": "127.0.0.1:65536"},
        {"udp": "127.0.0.1:x"},
        {"tcp": ["::1:5514"]},
        {"unix_stream": "relative"},
        {"unix_datagram": "/" + "x" * 107},
        {"max_message_bytes": 100},
        {"framing": "guess"},
        {"time_zone": "CET"},
        {"port": 514},
    ],
)
def test_configuration_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, SyslogCollector.Config)


def test_one_address_or_a_list_of_them_may_be_written() -> None:
    config = msgspec.convert({"udp": ":514", "tcp": ["[::1]:514", "localhost:514"], "unix_datagram": ""}, SyslogConfig)
    assert ["kmsg", "udp::514", "tcp:[::1]:514", "tcp:localhost:514"] == list(made(config)._openers)
