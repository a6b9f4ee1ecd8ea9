"""The source `nvml`: NVIDIA GPUs and their partitions, through NVIDIA's management library.

In order: `presence` (is there anything for it), `library` (opening it, and what its errors mean), `gpus` (which there
are), `fields` and `readings` (the rows), `documents` with `topology` and `partitions` (what each can do), `changes` and
`watch` (what happened), `collector` (all of it, as the host drives it).
"""

from collectors.nvml.collector import NvmlCollector as NvmlCollector
