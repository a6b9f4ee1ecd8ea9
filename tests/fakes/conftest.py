"""What the tests of the fakes share."""

from tests.fakes.nvml.fixtures import fake_nvml

__all__ = ["fake_nvml"]
