"""A module that cannot be imported: what it needs is not there."""

import acme_hardware_library  # type: ignore[import-not-found]  # noqa: F401


class Broken:
    """Never seen."""
