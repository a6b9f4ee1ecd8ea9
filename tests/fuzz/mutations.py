"""Small damage to sound bytes: what a bad line, a bad disk, a bad program and a bad person do to them."""

from random import Random

INTERESTING = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\x90",
    b"\xc0",
    b"\xc1",
    b"\xcb",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff",
)
"""Bytes on which readers stumble: msgpack's largest lengths, nil, the byte that it never uses, edges of sign."""


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """Give `data` after one to six changes; `other` is a second sound input, to cross it with."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 6)):
        _change(changed, other, random)
    return bytes(changed[: 1 << 20])


def _change(data: bytearray, other: bytes, random: Random) -> None:
    at = random.randint(0, len(data))
    span = random.randint(0, min(32, len(data)))
    match random.randrange(7):
        case 0 if data:
            place = random.randrange(len(data))
            data[place] ^= 1 << random.randrange(8)
        case 1:
            data[at:at] = random.choice(INTERESTING)
        case 2:
            del data[at : at + span]
        case 3:
            data[at:at] = data[at : at + span] * random.randint(1, 8)
        case 4:
            data[at:] = other[random.randint(0, len(other)) :]
        case 5:
            data[at : at + span] = random.randbytes(span)
        case _:
            del data[at:]
