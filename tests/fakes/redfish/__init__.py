"""BMCs that speak Redfish over HTTP and HTTPS, as slow, forgetful and broken as a test wants them.

    with Simulator() as simulator:
        bmc = simulator.add(recorded("dell"))
        ... a client of bmc.url, with bmc.user and bmc.password ...
        bmc.change("/redfish/v1/Chassis/1/Sensors/T1", Reading=45.0)
        bmc.faults.add(Slow(0.5), path="/redfish/v1/Chassis/*", times=3)
        assert ("GET", "/redfish/v1/Systems", 200) in bmc.requests

Reading order: `tree` (what a BMC has to tell), `message`, `bmc` (how it answers), `query` ($expand and its like),
`sessions`, `faults`, `events` (SSE, subscriptions), `machine` (power, logs), `http`, `simulator` (many of them).
`python -m tests.fakes.redfish` runs a thousand in one process.
"""

from tests.fakes.redfish.bmc import Bmc, Options
from tests.fakes.redfish.faults import (
    Drop,
    Fault,
    Garbage,
    Huge,
    Raw,
    Redirect,
    Rewrite,
    Slow,
    Stall,
    Status,
    Trickle,
    Truncated,
)
from tests.fakes.redfish.simulator import Simulator
from tests.fakes.redfish.tree import RECORDED, Tree, made, recorded

__all__ = [
    "RECORDED",
    "Bmc",
    "Drop",
    "Fault",
    "Garbage",
    "Huge",
    "Options",
    "Raw",
    "Redirect",
    "Rewrite",
    "Simulator",
    "Slow",
    "Stall",
    "Status",
    "Tree",
    "Trickle",
    "Truncated",
    "made",
    "recorded",
]
