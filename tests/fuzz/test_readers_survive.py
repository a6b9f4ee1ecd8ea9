"""Everything that reads bytes from elsewhere survives damaged input. A short run; `make fuzz` is the long one."""

from random import Random

import pytest

from tests.fuzz.__main__ import attack
from tests.fuzz.mutations import mutate
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_raises_only_what_the_reader_states(name: str) -> None:
    target, random = TARGETS[name], Random(20_260_101)
    for _ in range(1500):
        data = mutate(random.choice(target.seeds), random.choice(target.seeds), random)
        try:
            target.read(data)
        except target.errors:
            pass


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_sound(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].read(seed)


def test_a_reader_that_misbehaves_is_found() -> None:
    def brittle(data: bytes) -> object:
        if b"\xc1" in data:
            raise RecursionError("found")
        return data

    _, data, story = attack(Target(brittle, (b"sound",), (ValueError,)), Random(1), 20.0)
    assert data is not None
    assert b"\xc1" in data
    assert "RecursionError: found" in story
