"""What every test shares: how hard hypothesis tries, and the real servers."""

import os

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.services.fixtures import prometheus_binary, promtool, qemu, telegraf_binary

__all__ = ["prometheus_binary", "promtool", "qemu", "telegraf_binary"]

_slow_machines = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "small",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=_slow_machines,
)
settings.register_profile(
    "long",
    max_examples=5000,
    deadline=None,
    database=DirectoryBasedExampleDatabase(".cache/hypothesis"),
    suppress_health_check=_slow_machines,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "small"))
