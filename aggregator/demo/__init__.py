"""`muster demo`: the scenarios of the requirements, played from end to end on simulated nodes.

Each plays on an aggregator and a fleet of its own, in a temporary folder, and says in plain sentences what it asks and
what comes back. Modules of scenarios are imported only when they are played.
"""

from typing import Final, NamedTuple


class Scenario(NamedTuple):
    """A scenario: what it shows, the module that plays it (`play`), and the fleet that it is played on."""

    title: str
    module: str
    fleet: str
    """A file in `fleets`."""


SCENARIOS: Final[dict[str, Scenario]] = {
    "000": Scenario(
        "2 + 256 network functions with VLANs, two drives; drift after a restart", "aggregator.demo.drift", "000.toml"
    ),
    "001": Scenario(
        "DPUs whose capabilities come and go; what is consumed, and what remains", "aggregator.demo.dpus", "001.toml"
    ),
    "002": Scenario(
        "a server with six V100 in four IOMMU groups: exactly four tenants", "aggregator.demo.shared_gpus", "002.toml"
    ),
    "003": Scenario("one GPU, two NICs whole and in parts, two workers", "aggregator.demo.two_workers", "003.toml"),
    "004": Scenario(
        "the life of a claim: 64 parallel provisions, one that fails, a clean", "aggregator.demo.claim_life", "004.toml"
    ),
}
"""By the number of the requirement that they show."""
