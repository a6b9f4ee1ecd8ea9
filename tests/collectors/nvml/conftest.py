"""The fake library for all tests of this folder, in this process and in helpers."""

from tests.fakes.nvml.fixtures import fake_nvml

__all__ = ["fake_nvml"]
