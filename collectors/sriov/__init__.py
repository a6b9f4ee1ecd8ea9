"""The source `sriov`: network ports and their virtual functions, whether or not a port has any.

In order: `sysfs` (which there are), `netlink`, `ethtool` and `genetlink` (reading what the kernel answers), `kernel`
(who answers), `devlink` (what drivers tell of cards) and `rdma` (their RDMA links), `survey` (one look at all, and what
changed since the last), `drivers` (whose counts are believed), `readings` and `health` (the rows), `documents` and
`cards` (what each can do), `checks`, `drift` and `standing` (what differs from what it should be), `keeping` (what
outlives the process), `ears` (what tells of changes), `collector` (all of it, as the host drives it).
"""

from collectors.sriov.collector import SriovCollector as SriovCollector
