"""SIGHUP: a running aggregator takes what it can of a new configuration, says what it cannot, and refuses a bad one.

Requirements: DESIGN part 8 (reload on SIGHUP).
"""

import logging
import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.config import SECTIONS, AggregatorConfig, AggregatorSection, load_aggregator_config
from aggregator.reloading import LIVE, Reloader, changes
from aggregator.service import Service
from schemas.metrics import Catalogue
from tests.acceptance.stage import Muster, stage, until
from tests.certificates import Authority
from tests.faults.rig import Bench

OLD = """
[log]
partitions = 8
max_bytes = 100000000
[retention]
log_days = 3
[verbosity]
max_nodes = 2
"""
NEW = """
[aggregator]
log_level = "error"
[log]
partitions = 4
max_age_hours = 2
max_bytes = 200000000
[store]
level = "standard"
[retention]
log_days = 2
log_max_bytes = 50000000
[verbosity]
max_nodes = 7
max_grant_seconds = 10
"""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Give the root logger its level back."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


class Works:
    """A service that only takes note."""

    def __init__(self, config: AggregatorConfig) -> None:
        self.config = config

    def configure(self, config: AggregatorConfig) -> None:
        self.config = config


class Place:
    """A configuration file, and the reloader of what runs by it."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "muster.toml"
        self.path.write_text(text)
        self.certificates: list[AggregatorSection] = []
        self.works = Works(load_aggregator_config(self.path))
        self.reloader = Reloader(self.works, self.path, self.certificates.append)


async def test_what_can_be_taken_is_taken_and_the_rest_is_named_and_keeps_its_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path, OLD)
    place.path.write_text(NEW)
    with caplog.at_level(logging.INFO):
        found = await place.reloader.reload()
        assert logging.ERROR == logging.getLogger().level
    assert found is not None
    assert ["log.partitions", "store.level"] == found.kept
    assert [
        "aggregator.log_level",
        "log.max_age_hours",
        "log.max_bytes",
        "retention.log_days",
        "retention.log_max_bytes",
        "verbosity.max_grant_seconds",
        "verbosity.max_nodes",
    ] == sorted(found.taken)
    now = place.works.config
    assert (8, 200_000_000, 2.0) == (now.log.partitions, now.log.max_bytes, now.log.max_age_hours)
    assert ("debug", 2.0, 7) == (now.store.level, now.retention.log_days, now.verbosity.max_nodes)


async def test_options_that_need_a_restart_are_told_in_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(tmp_path, OLD)
    place.path.write_text(OLD.replace("partitions = 8", "partitions = 4"))
    await place.reloader.reload()
    assert "reload_needs_restart options=['log.partitions']" in caplog.text


async def test_a_bad_configuration_is_refused_with_its_error_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path, OLD)
    before = place.works.config
    place.path.write_text(NEW.replace("max_nodes = 7", "max_noodles = 7"))
    assert await place.reloader.reload() is None
    assert before is place.works.config
    assert "reload_refused" in caplog.text
    assert "max_noodles" in caplog.text


async def test_a_certificate_that_cannot_be_used_is_refused_and_nothing_else_is_taken(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).certificate()
    tls = f"[aggregator]\ntls_certificate = '{certificate}'\ntls_key = '{key}'\n"
    place = Place(tmp_path, tls)
    before = place.works.config
    place.path.write_text(tls + "[verbosity]\nmax_nodes = 7\n")
    Authority(tmp_path / "other").certificate()[0].replace(certificate)  # its key is yet to come
    assert await place.reloader.reload() is None
    assert before is place.works.config
    assert not place.certificates


def test_a_listener_neither_gets_nor_loses_tls_while_it_runs(tmp_path: Path) -> None:
    certificate, key = map(str, Authority(tmp_path).certificate())
    plain = AggregatorConfig(data_dir=tmp_path)
    with_tls = AggregatorConfig(
        data_dir=tmp_path, aggregator=AggregatorSection(tls_certificate=certificate, tls_key=key)
    )
    for old, new in ((plain, with_tls), (with_tls, plain)):
        found = changes(old, new)
        assert ["aggregator.tls_certificate", "aggregator.tls_key"] == found.kept
        assert old == found.config


def test_every_live_option_exists() -> None:
    for section, options in LIVE.items():
        assert options <= set(SECTIONS[section].model_fields)


async def test_the_service_works_by_the_new_limits(tmp_path: Path) -> None:
    path = tmp_path / "muster.toml"
    path.write_text(OLD)
    env = {"MUSTER_DATA_DIR": str(tmp_path / "data")}
    service = Service(load_aggregator_config(path, env), Catalogue({}))
    await service.start()
    try:
        path.write_text(NEW)
        service.configure(changes(service.config, load_aggregator_config(path, env)).config)
        assert {7200.0} == {limits.age_seconds for limits in service.retention._limits.values()}
        assert (2.0, 50_000_000) == (service.store.config.retention.log.days, service.store.config.retention.log.bytes)
        assert (7, 10.0) == (service.fleet.grants._budget.max_nodes, service.fleet.grants._budget.max_seconds)
    finally:
        await service.stop()


def shown(muster: Muster) -> str:
    return ssl.get_server_certificate(("127.0.0.1", muster.port), timeout=10)


def test_an_aggregator_shows_its_renewed_certificate_after_sighup(tmp_path: Path) -> None:
    signer = Authority(tmp_path / "authority")
    certificate, key = signer.certificate()
    with stage(tmp_path / "muster", f"[aggregator]\ntls_certificate = '{certificate}'\ntls_key = '{key}'\n") as muster:
        process = muster.start("aggregator")
        until("the aggregator", lambda: Bench(muster).get("/v1/status"))
        first = shown(muster)
        signer.certificate()
        process.send_signal(signal.SIGHUP)
        until("the renewed certificate", lambda: shown(muster) != first)
        assert certificate.read_text() == shown(muster)
        assert process.poll() is None


@pytest.mark.usefixtures("hangs_up")
def test_muster_up_hands_sighup_to_its_children_and_lives(tmp_path: Path) -> None:
    with stage(tmp_path, "[agent]\nonly = ['host']\n") as muster:
        up = muster.start("up")
        muster.ready()
        children = {module: muster.child(module).pid for module in ("aggregator.server", "collectors.main")}
        muster.config.write_text("[agent]\nonly = ['host', 'syslog']\n[verbosity]\nmax_nodes = 7\n")
        os.kill(up.pid, signal.SIGHUP)
        until("the aggregator's reload", lambda: "reloaded taken=['verbosity.max_nodes']" in muster.log())
        until("the agent's reload", lambda: "reloaded collectors=['host', 'syslog']" in muster.log())
        muster.config.write_text("[verbosity]\nmax_noodles = 7\n[agent]\nlevvel = 1\n")
        os.kill(up.pid, signal.SIGHUP)
        until("both refusals", lambda: muster.log().count("reload_refused") == 2)
        assert children == {module: muster.child(module).pid for module in children}
