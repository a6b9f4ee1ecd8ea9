"""Which drivers count what their virtual functions send and receive, seen from the port.

For a driver that does not, the kernel fills the answer with zeros all the same, which says nothing.
Source: `ndo_get_vf_stats` in drivers/net of Linux 6.12: it is missing in bnxt, bnx2x, igb, qede, qlcnic, sfc, hns3,
hinic, nfp, octeontx2, cxgb4, be2net, funeth.
"""

from typing import Final

from collectors.sriov.netlink import Counters

COUNTING: Final = frozenset({"mlx5_core", "mlx4_core", "ice", "i40e", "ixgbe", "ionic", "LiquidIO", "fm10k"})
"""Drivers of ports that count. `ice` and others answer zeros while a function is in reset."""


class Trust:
    """What is believed of counters: what counts shows it, by the table or by a count that is not zero."""

    def __init__(self) -> None:
        self._counted: set[tuple[str, int]] = set()
        self._proved: set[str] = set()

    def counts(self, driver: str) -> bool:
        """Whether the port's driver is known to count."""
        return driver in COUNTING or driver in self._proved

    def believed(self, driver: str, function: tuple[str, int], counters: Counters | None) -> Counters | None:
        """Give counters that are a measurement, else None. `function`: address and inode, one for each making.

        Zeros after a count are those of a function in reset, which keeps its count unless it is made anew.
        """
        if counters is None:
            return None
        if not counters.zero:
            self._proved.add(driver)
            self._counted.add(function)
            return counters
        return counters if driver in COUNTING and function not in self._counted else None

    def keep(self, functions: set[tuple[str, int]]) -> None:
        """Forget the functions that there are no longer."""
        self._counted &= functions
