"""NVMe drives: what they are, how they fare, what is on them.

Reading order: `admin` asks a controller, `identify`, `logs`, `ocp` and `virtualization` decode what it answers, `sysfs`
and `content` read what the kernel knows; `readings` makes rows of it, `documents` capability documents, `changes`
events; `collector` does all that when it is due.
"""

from collectors.nvme.collector import NvmeCollector, NvmeConfig

__all__ = ["NvmeCollector", "NvmeConfig"]
