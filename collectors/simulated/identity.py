"""Who simulated things are: ids, serial numbers, UUIDs and MACs that follow from the seed alone."""

import hashlib


def digest(*words: object) -> str:
    """Give 32 hex digits that follow from `words`, and differ for other words."""
    return hashlib.blake2b("\0".join(map(str, words)).encode(), digest_size=16).hexdigest()


def number(*words: object) -> int:
    """Give a whole number, 0 to 2**63 - 1, that follows from `words`."""
    return int(digest(*words)[:16], 16) >> 1


def share(*words: object) -> float:
    """Give a number in [0, 1) that follows from `words`."""
    return number(*words) / (1 << 63)


def uuid(*words: object) -> str:
    """Give a UUID of version 8 (made up by its own rules: RFC 9562) that follows from `words`."""
    text = digest(*words)
    return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-8{text[17:20]}-{text[20:]}"


def serial(prefix: str, *words: object) -> str:
    """Give a serial number, `prefix` and ten digits."""
    return f"{prefix}{number(*words) % 10**10:010d}"


def mac(*words: object) -> str:
    """Give a locally administered unicast MAC address."""
    text = digest(*words)
    return ":".join(("02", *(text[at : at + 2] for at in range(0, 10, 2))))
