"""How GPUs of a node are near each other, to CPUs and to the NVLink fabric, in words of `schemas.capabilities_gpu`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from collectors._procfs import names
from collectors.nvml.gpus import Gpu
from collectors.nvml.library import Asker, GpuLostError
from collectors.nvml.links import rate_of
from collectors.nvml.readings import fabric_of
from schemas.device import Value, pci_address

_TO_GPU, _TO_SWITCH = 0, 2
"""Source: nvml.h, nvmlIntNvLinkDeviceType_t."""
_COMMON: Final = {0: "internal", 10: "single", 20: "multiple", 30: "hostbridge", 40: "node", 50: "system"}
_PEER_WAYS: Final = ((0, "read"), (1, "write"), (2, "nvlink"), (3, "atomics"))
_OK: Final = 0
_FABRIC_STATES: Final = {1: "not-started", 2: "in-progress", 3: "completed"}
_HEALTH: Final = (
    (0, "degraded-bandwidth"),
    (2, "route-recovery"),
    (4, "route-unhealthy"),
    (6, "access-timeout-recovery"),
)
"""Two bits each: 1 for yes. Source: nvml.h, NVML_GPU_FABRIC_HEALTH_MASK_*."""
_CONFIGURATIONS: Final = {2: "wrong-system-guid", 3: "wrong-chassis-serial", 4: "no-partition", 5: "too-few-nvlinks",
                          6: "incompatible-firmware", 7: "wrong-place", 8: "gpu-state-invalid"}  # fmt: skip
_WORD_BITS: Final = 64


def links_of(gpu: Gpu, gpus: Sequence[Gpu]) -> dict[str, Value]:
    """Give a GPU's place in the graph of NVLinks; {} without NVLink. Raises GpuLostError, NewProcessError."""
    states = gpu.reader.links.states()
    if not states:
        return {}
    asker = gpu.asker
    by_address = {other.identity.address: other for other in gpus if other.identity.address}
    peers: dict[str, int] = {}
    switched = 0
    for link, active in states.items():
        if not active:
            continue
        kind = asker.ask("nvmlDeviceGetNvLinkRemoteDeviceType", link)
        if kind == _TO_SWITCH:
            switched += 1
        elif kind in (_TO_GPU, None):
            peer = by_address.get(_remote(asker, link))
            if peer is not None:
                peers[peer.device] = peers.get(peer.device, 0) + 1
    if switched:  # through switches every GPU there reaches every other by all its links
        peers = {other.device: switched for other in gpus if other is not gpu and _behind_switch(other)}
    rate = rate_of(asker)
    return {
        "nvlinks": len(states),
        "nvlinks_active": sum(states.values()),
        **({} if rate is None else {"nvlink_rate_bytes_per_second": rate}),
        "nvlink_switched": bool(switched),
        "nvlink_peers": [f"{device}={count}" for device, count in sorted(peers.items())],
    }


def _behind_switch(gpu: Gpu) -> bool:
    try:
        return any(
            active and gpu.asker.ask("nvmlDeviceGetNvLinkRemoteDeviceType", link) == _TO_SWITCH
            for link, active in gpu.reader.links.states().items()
        )
    except GpuLostError:
        return False


def _remote(asker: Asker, link: int) -> str:
    info = asker.ask("nvmlDeviceGetNvLinkRemotePciInfo", link)
    if info is None:
        return ""
    text = info.busId.decode("ascii", "replace") if isinstance(info.busId, bytes) else str(info.busId)
    try:
        return pci_address(text)
    except ValueError:
        return ""


def near(gpu: Gpu, gpus: Sequence[Gpu]) -> dict[str, Value]:
    """Give how far other GPUs are and how their memory is reached. Raises GpuLostError, NewProcessError."""
    topology, reach = [], []
    for other in gpus:
        if other is gpu or other.lost:
            continue
        level = gpu.asker.hand("nvmlDeviceGetTopologyCommonAncestor", (other.device,), other.asker.handle)
        if level in _COMMON:
            topology.append(f"{other.device}={_COMMON[level]}")
        ways = [word for index, word in _PEER_WAYS if _reaches(gpu, other, index)]
        if ways:
            reach.append(f"{other.device}={'+'.join(ways)}")
    return {
        **({"topology": sorted(topology)} if topology else {}),
        **({"p2p_peers": sorted(reach)} if reach else {}),
    }


def _reaches(gpu: Gpu, other: Gpu, index: int) -> bool:
    status = gpu.asker.hand("nvmlDeviceGetP2PStatus", (other.device, index), other.asker.handle, index)
    return bool(status == _OK)


def affinity(asker: Asker, root: Path) -> dict[str, Value]:
    """Give CPUs and NUMA nodes near a GPU. Raises GpuLostError, NewProcessError."""
    found: dict[str, Value] = {}
    cpus = asker.ask("nvmlDeviceGetCpuAffinity", _words(root, "sys/devices/system/cpu", "cpu"))
    nodes = asker.ask("nvmlDeviceGetMemoryAffinity", _words(root, "sys/devices/system/node", "node"), 0)
    for word, bits in (("cpu_affinity", cpus), ("memory_affinity", nodes)):
        text = "" if bits is None else ranges(list(bits))
        if text:
            found[word] = text
    return found


def _words(root: Path, folder: str, prefix: str) -> int:
    """Give how many 64-bit words hold a bit for each numbered thing of a folder."""
    numbers = [int(name[len(prefix) :]) for name in names(root / folder) if name[len(prefix) :].isdecimal()]
    return max(numbers, default=0) // _WORD_BITS + 1


def ranges(words: list[int]) -> str:
    """Give the set bits of 64-bit words as Linux writes lists: `0-3,8`; "" for none."""
    bits = [
        number * _WORD_BITS + bit
        for number, word in enumerate(words)
        for bit in range(_WORD_BITS)
        if int(word) >> bit & 1
    ]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in _runs(bits))


def _runs(bits: list[int]) -> Iterator[tuple[int, int]]:
    first = last = -1
    for bit in bits:
        if first >= 0 and bit == last + 1:
            last = bit
            continue
        if first >= 0:
            yield first, last
        first = last = bit
    if first >= 0:
        yield first, last


def fabric(asker: Asker) -> dict[str, Value]:
    """Give how a GPU stands in its NVLink fabric; {} where there is none. Raises GpuLostError, NewProcessError."""
    info = fabric_of(asker)
    if info is None or int(info.state) not in _FABRIC_STATES:
        return {}
    found: dict[str, Value] = {"fabric_state": _FABRIC_STATES[int(info.state)]}
    if int(info.state) != max(_FABRIC_STATES):
        return found
    cluster = bytes(info.clusterUuid).hex()
    if cluster.strip("0"):
        found["fabric_cluster"] = "-".join((cluster[:8], cluster[8:12], cluster[12:16], cluster[16:20], cluster[20:]))
        found["fabric_clique"] = int(info.cliqueId)
    found["fabric_status"] = "ok" if not info.status else f"error {int(info.status)}"
    wrong = health_words(getattr(info, "healthMask", 0))
    return found | ({"fabric_health": wrong} if wrong else {})


def health_words(mask: int) -> Any:
    """Give what a fabric's health mask says is wrong, in words."""
    wrong = [word for shift, word in _HEALTH if mask >> shift & 3 == 1]
    configuration = _CONFIGURATIONS.get(mask >> 8 & 0xF)
    return [*wrong, *([configuration] if configuration else [])]
