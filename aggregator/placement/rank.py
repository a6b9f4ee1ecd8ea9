"""How good a choice on one node is: a tuple compared from the left, packed into one number; lower is better.

1. topology, as far as the request cares: NVLink islands beyond one, NUMA nodes beyond one, PCIe roots beyond one,
   NVLinks that the chosen GPUs lack between them;
2. stranded capacity: endpoints of broken IOMMU groups that nobody else can have (or that the claim takes beside what
   it needs), NVLinks cut between chosen and left GPUs, places for MIG partitions lost;
3. fill: fitting devices left on the node, fewer first (`spread`: more first). `pack` and `spread` put it before 2.
"""

from typing import Final

from aggregator.placement.request import Strategy

WIDTH: Final = 14
MOST: Final = (1 << WIDTH) - 1
"""Each member of the tuple is held to this."""


def pack(topology: tuple[int, int, int, int], stranded: tuple[int, int, int], fill: int, strategy: Strategy) -> int:
    """Pack a choice's figures into its rank."""
    if strategy is Strategy.LEAST_STRANDED:
        order = (*topology, *stranded, fill)
    elif strategy is Strategy.PACK:
        order = (*topology, fill, *stranded)
    else:
        order = (*topology, MOST - fill, *stranded)
    rank = 0
    for value in order:
        rank = rank << WIDTH | min(value, MOST)
    return rank


def pack_fill(fill: int, strategy: Strategy) -> int:
    """Pack how full a node is, as `pack` does, behind the best of everything else."""
    if strategy is Strategy.LEAST_STRANDED:
        return min(fill, MOST)
    return (min(fill, MOST) if strategy is Strategy.PACK else max(0, MOST - fill)) << 3 * WIDTH


def topology_of(rank: int) -> tuple[int, int, int, int]:
    """Give back the topology that a rank was made of."""
    top = rank >> 4 * WIDTH
    return tuple(top >> at * WIDTH & MOST for at in (3, 2, 1, 0))  # type: ignore[return-value]
