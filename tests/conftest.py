"""What every test shares: how hard hypothesis tries."""

import os

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

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
settings.load_profile(os.environ.get("MUSTER_HYPOTHESIS", "small"))
