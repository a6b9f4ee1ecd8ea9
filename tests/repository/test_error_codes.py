"""API answers carry stable codes: each error has its own, and a released one never changes."""

import importlib
import pkgutil

import aggregator
import collectors
import dashboards
import schemas
from schemas.errors import MusterError
from tests.repository.error_codes import CODES


def _every_error() -> list[type[MusterError]]:
    """Give every error class of the four packages, whichever module declares it."""
    for package in (schemas, collectors, aggregator, dashboards):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "migrations" not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found, waiting = [], [MusterError]
    while waiting:
        error = waiting.pop()
        found.append(error)
        waiting += error.__subclasses__()
    ours = tuple(f"{package.__name__}." for package in (schemas, collectors, aggregator, dashboards))
    return [error for error in found if error.__module__.startswith(ours)]


def test_every_error_has_a_code_of_its_own() -> None:
    errors = _every_error()
    owners: dict[str, list[str]] = {}
    for error in errors:
        owners.setdefault(error.code, []).append(error.__qualname__)
    assert {} == {code: names for code, names in owners.items() if len(names) > 1}


def test_the_codes_are_those_that_are_pinned() -> None:
    """A new error: add its line to `error_codes.py`. A changed code: it was released, so change it back."""
    assert CODES == {error.__qualname__: error.code for error in _every_error()}


def test_every_error_is_named_error() -> None:
    assert [] == [error.__qualname__ for error in _every_error() if not error.__qualname__.endswith("Error")]
