"""The source `redfish`: BMCs over the network, one of this machine or a thousand from a list.

In order: `config` (whom, and how gently), `resource` (what a BMC sent, and how to look into it), `connection`,
`asking` and `client` (asking one BMC), `tree` (what is there), `units`, `readings` with `sensors` and `board` (rows),
`documents` (what each part is), `alerts`, `logs`, `events` and `power` (what happened), `reader` and `unit` (one BMC
over time), `poller` and `ears` (many at a time), `collector` (all of it, as the host drives it).
"""

from collectors.redfish.collector import RedfishCollector as RedfishCollector
