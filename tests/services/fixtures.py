"""Fixtures for tests that need a real server: missing, it is a skip; under CI it is installed, or a failure."""

from pathlib import Path

import pytest

from tests.needs import in_ci, unmet
from tests.services.binaries import (
    NOVA,
    PLACEMENT_12,
    PLACEMENT_16,
    POSTGRES,
    PROMETHEUS,
    PROMTOOL,
    QEMU,
    TELEGRAF,
    NotAvailableError,
    Program,
    provide,
)


def _needed(program: Program) -> Path:
    try:
        return provide(program, may_install=in_ci())
    except NotAvailableError as error:
        unmet(str(error))


@pytest.fixture(scope="session")
def telegraf_binary() -> Path:
    """Telegraf, built with the plugins that are measured."""
    return _needed(TELEGRAF)


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus's checker."""
    return _needed(PROMTOOL)


@pytest.fixture(scope="session")
def prometheus_binary() -> Path:
    """Prometheus."""
    return _needed(PROMETHEUS)


@pytest.fixture(scope="session")
def qemu() -> Path:
    """QEMU for x86-64."""
    return _needed(QEMU)


@pytest.fixture(scope="session")
def postgres_binary() -> Path:
    """PostgreSQL's server."""
    return _needed(POSTGRES)


@pytest.fixture(scope="session")
def placement12() -> Path:
    """The Python that has Placement 12."""
    return _needed(PLACEMENT_12)


@pytest.fixture(scope="session")
def nova_python() -> Path:
    """The Python that has nova."""
    return _needed(NOVA)


@pytest.fixture(scope="session")
def placement16() -> Path:
    """The Python that has Placement 16."""
    return _needed(PLACEMENT_16)
