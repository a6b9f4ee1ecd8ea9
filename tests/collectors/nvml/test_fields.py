"""Values by number: whatever type the driver gives them, the number that it means; nothing for what means nothing."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from collectors.nvml.fields import _number
from collectors.nvml.library import Outcome, outcome_of

_TYPES = {1: ("=I", 4), 2: ("=Q", 8), 3: ("=Q", 8), 4: ("=q", 8), 5: ("=i", 4), 6: ("=H", 2)}


@st.composite
def _typed(draw: st.DrawFn) -> tuple[int, int, int]:
    """Give a type, a number that fits it, and the eight bytes of the union, with rubbish above the number."""
    kind = draw(st.sampled_from(sorted(_TYPES)))
    form, size = _TYPES[kind]
    bits = size * 8
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if form[1].islower() else (0, (1 << bits) - 1)
    number = draw(st.integers(low, high))
    rubbish = draw(st.binary(min_size=8 - size, max_size=8 - size))
    return kind, number, struct.unpack("=Q", struct.pack(form, number) + rubbish)[0]


@given(_typed())
def test_number_is_read_by_its_type_and_all_bits_set_is_none(typed: tuple[int, int, int]) -> None:
    kind, number, raw = typed
    form, size = _TYPES[kind]
    absent = form[1].isupper() and number == (1 << size * 8) - 1
    assert (None if absent else number) == _number(kind, raw)


@given(st.floats(allow_nan=False))
def test_fraction_is_read_as_it_is(number: float) -> None:
    assert number == _number(0, struct.unpack("=Q", struct.pack("=d", number))[0])


@given(st.integers(7, 1 << 32), st.integers(0, (1 << 64) - 2))
def test_type_that_nobody_knows_is_a_whole_number(kind: int, raw: int) -> None:
    assert raw == _number(kind, raw)


@given(st.integers())
def test_every_code_means_something(code: int) -> None:
    assert outcome_of(code) in Outcome
