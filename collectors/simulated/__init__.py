"""`simulated`: a fleet of nodes that behave like real ones and say that they are fake.

Read in this order: `spec` (the fleet file's words), `topology` (where devices sit), `physics_gpu` (how they move),
`faults` (what goes wrong), `drift` (what is not as it should be), `node` (what a node says), `fleet`.
"""

from collectors.simulated.collector import SimulatedCollector, SimulatedConfig
from collectors.simulated.fleet import Fleet, default_fleet
from collectors.simulated.node import SimulatedNode
from collectors.simulated.spec import Fault

__all__ = ["Fault", "Fleet", "SimulatedCollector", "SimulatedConfig", "SimulatedNode", "default_fleet"]
