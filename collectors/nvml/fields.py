"""Values that the library gives by number, many in one call.

The array that comes back is taken apart at once: field by field through ctypes would cost ten times as much.
Source: NVML API reference, nvmlFieldValue_t, nvmlDeviceGetFieldValues.
"""

import sys
from collections.abc import Callable, Iterable
from struct import Struct
from typing import Any, Final

import msgspec

from collectors.nvml.library import Asker, GpuLostError, Outcome, ResetRequiredError, driver_gone, outcome_of
from schemas.errors import NewProcessError
from schemas.rows import FieldValue
from schemas.verbosity import Level

_VALUE: Final = Struct("=IIqqIIQ")
"""Field, scope, time, microseconds that it took, type, return code, value."""
_DOUBLE: Final = 0
_WIDTHS: Final[dict[int, tuple[int, bool]]] = {
    1: (32, False),
    2: (64, False),
    3: (64, False),
    4: (64, True),
    5: (32, True),
    6: (16, False),
}
"""By NVML's type of a value: bits, and whether it has a sign."""
_GET: Final = "nvmlDeviceGetFieldValues"


class Field(msgspec.Struct, frozen=True):
    """One value that is read by number."""

    column: str
    number: int
    level: Level
    made: Callable[[Any], FieldValue] = int
    """Makes the column's value, in base units, of the library's."""
    scope: int = 0


class Fields:
    """Reads the fields of one device, at the level in force.

    Of two fields that make one column (models and drivers differ) the one that answers is kept.
    """

    def __init__(self, asker: Asker, fields: Iterable[Field]) -> None:
        self._asker = asker
        self._fields = list(fields)
        self._columns = {field.column for field in self._fields}
        self._plans: dict[Level, tuple[list[Field], list[tuple[int, int]]]] = {}
        self.microseconds = 0
        """What the driver took for the last reading, by its own word."""

    @property
    def unsupported(self) -> set[str]:
        """Columns that no field can fill on this device."""
        return self._columns - {field.column for field in self._fields}

    def read(self, into: dict[str, FieldValue], level: Level) -> None:
        """Add what there is, in one call. Raises GpuLostError, NewProcessError."""
        fields, ids = self._plan(level)
        if not ids:
            self.microseconds = 0
            return
        values = self._ask(ids)
        if values is None:
            return
        dropped: list[Field] = []
        took = 0
        for field, (_, _, _, latency, kind, code, raw) in zip(fields, _VALUE.iter_unpack(values), strict=False):
            took += max(0, latency)
            if code:
                if self._lasting(code):
                    dropped.append(field)
                continue
            value = _number(kind, raw)
            if value is None:
                continue
            if field.column in into:
                dropped.append(field)
            else:
                into[field.column] = field.made(value)
        self.microseconds = took
        if dropped:
            self._drop(dropped)

    def _ask(self, ids: list[tuple[int, int]]) -> bytes | None:
        asker = self._asker
        key = (_GET, ())
        if asker.lacks(_GET) or key in asker.unsupported:
            return None
        try:
            return bytes(asker.nvml.nvmlDeviceGetFieldValues(asker.handle, ids))
        except asker.nvml.NVMLError as error:
            asker.refused(error, key)
        return None

    def _lasting(self, code: int) -> bool:
        """Take the code of one value; true when it will never be there. Raises GpuLostError, NewProcessError."""
        outcome = outcome_of(code)
        if outcome is Outcome.LOST:
            raise GpuLostError("GPU is lost")
        if outcome is Outcome.RESET:
            raise ResetRequiredError("GPU requires reset")
        if outcome is Outcome.DRIVER:
            raise NewProcessError(driver_gone(Exception(f"field values: error {code}")))
        if outcome is Outcome.DENIED:
            self._asker.denied.add(_GET)
        return outcome is Outcome.UNSUPPORTED

    def _drop(self, dropped: list[Field]) -> None:
        gone = {id(field) for field in dropped}
        self._fields = [field for field in self._fields if id(field) not in gone]
        self._plans.clear()

    def _plan(self, level: Level) -> tuple[list[Field], list[tuple[int, int]]]:
        plan = self._plans.get(level)
        if plan is None:
            fields = [field for field in self._fields if field.level <= level]
            plan = self._plans[level] = fields, [(field.number, field.scope) for field in fields]
        return plan


def _number(kind: int, raw: int) -> int | float | None:
    """Give a value of NVML's union by its type; None for what stands for `not available`, all bits set."""
    if kind == _DOUBLE:
        number: float = Struct("=d").unpack(raw.to_bytes(8, sys.byteorder))[0]
        return number
    bits, signed = _WIDTHS.get(kind, (64, False))
    whole = raw & ((1 << bits) - 1)
    if signed:
        return whole - (1 << bits) if whole >> (bits - 1) else whole
    return None if whole == (1 << bits) - 1 else whole
