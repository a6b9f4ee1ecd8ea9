"""The source `sriov`: network ports and their virtual functions, whether or not a port has any.

In order: `sysfs` (which there are), `netlink` and `ethtool` (reading what the kernel answers), `kernel` (who answers),
`survey` (one look at all, and what changed since the last), `drivers` (whose counts are believed), `readings` (the
rows), `documents` (what each can do), `ears` (what tells of changes), `collector` (all of it, as the host drives it).
"""

from collectors.sriov.collector import SriovCollector as SriovCollector
