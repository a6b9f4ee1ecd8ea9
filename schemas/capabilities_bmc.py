"""The words in which BMCs are described, and what they tell of a machine's parts: one name and meaning for all sources.

Memory modules, processors, drives, GPUs and NICs take the words that the node's own collectors have for them.
"""

from typing import Final

from schemas.capabilities import Word

BMC_WORDS: Final = (
    Word("system_uuid", str, "System UUID of the machine that it manages.", own=True),
    Word("redfish_version", str, "Version of Redfish that it speaks: `1.15.0`."),
    Word("management_controller", str, "Its own making: `15G Monolithic`, `Lenovo XClarity Controller`."),
    Word("machine_model", str, "What the machine is that it manages."),
    Word("machine_serial", str, "What is printed on that machine.", own=True),
    Word("event_stream", bool, "Whether it offers a stream of events (SSE)."),
)
"""What a BMC is. Source: Redfish Manager 1.19, ComputerSystem 1.22, ServiceRoot 1.17, EventService 1.10."""

MACHINE_PART_WORDS: Final = (
    Word("health", str, "Its health as its BMC sees it: `ok`, `warning`, `critical`; absent: nobody says.", own=True),
    Word("failure_predicted", bool, "Whether its BMC expects that it fails soon.", own=True),
    Word("part_state", str, "Why it is not in use: `disabled`, `standbyspare`; absent: it is.", own=True),
    Word("output_limit_watts", float, "The most that a power supply gives."),
    Word("supply_type", str, "What a power supply takes: `ac`, `dc`, `acordc`."),
    Word("hot_pluggable", bool, "Whether it can be changed while the machine runs."),
    Word("drive_protocol", str, "How a drive is spoken to: `nvme`, `pcie`."),
)  # fmt: skip
"""What a BMC tells of a part of its machine. Source: Redfish Resource 1.20 (Status), PowerSupply 1.6, Drive 1.20."""

OWN_BMC_WORDS: Final = frozenset(word.name for word in (*BMC_WORDS, *MACHINE_PART_WORDS) if word.own)
"""Names of the words that tell of one device and not of its making."""
