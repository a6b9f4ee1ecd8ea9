"""The source `redfish`: BMCs over the network, one of this machine or a thousand from a list.

In order: `config` (whom, and how gently), `resource` (what a BMC sent, and how to look into it), `connection` and
`client` (asking one BMC), `tree` (what is there), `readings` (the rows), `poller` (many at a time), `collector` (all of
it, as the host drives it).
"""
