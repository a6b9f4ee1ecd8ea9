"""What two collectors tell of one happening becomes one event, as the agent takes it in.

NVML and the kernel log both tell Xids and lost GPUs, within milliseconds: whoever is first is heard, at once, and what
the other then tells of the same is folded. What only one of them can see goes through. An event of the kernel log names
a PCI address; once NVML has described the GPU that sits there, it is the GPU's event.

A baseboard's BMC tells Xids too, later and with less. What it tells of a GPU that NVML describes as well is folded when
the driver's own word of it was taken before; the driver's word is always heard. Only one agent's collectors are joined
here: a BMC that another polls is told of by a publisher of its own.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final, TypeVar

import msgspec

from schemas.batch import Block
from schemas.device import DeviceKind, Document
from schemas.rows import EVENT

WINDOW_NS: Final = {
    "nvml.xid": 10_000_000_000,
    "nvml.gpu.lost": 60_000_000_000,
    "nvml.gpu.reset_required": 60_000_000_000,
    "redfish.xid": 120_000_000_000,
}
"""By type, how far apart two collectors may tell of one happening: NVML notices a loss with its next reading, and a
BMC's log is read now and then, by a clock of its own.
"""
_OF_BMC: Final = "redfish.xid"
_OF_DRIVER: Final = "nvml.xid"
_PLACE: Final = "pci:"
_MOST: Final = 1024
_Cell = TypeVar("_Cell")
_Facts = dict[str, Any]
_decoder = msgspec.json.Decoder(_Facts)
_encoder = msgspec.json.Encoder()


class Joining:
    """Remembers who told what last. For one thread at a time."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str, object], tuple[str, int]] = OrderedDict()
        self._gpus: dict[str, dict[str, tuple[str, str]]] = {}
        self._keys: dict[tuple[str, str], dict[str, list[str]]] = {}
        """Collector and subject -> GPU -> its merge keys."""

    def described(
        self, collector: str, documents: Iterable[Document], subject: str = "", *, whole: bool = True
    ) -> None:
        """Take all that a collector describes now, or with `whole` false some of it.

        By PCI address, which GPU sits there; and what each GPU is called. `subject`: "" for the node itself.
        """
        told = [document for document in documents if document.kind is DeviceKind.GPU]
        keys = {} if whole else self._keys.get((collector, subject), {})
        keys |= {document.device: document.merge_keys for document in told}
        if keys or (collector, subject) in self._keys:
            self._keys[collector, subject] = keys
        if subject:
            return
        gpus = {
            key: (document.device, document.part.uuid)
            for document in told
            for key in document.merge_keys
            if key.startswith(_PLACE) and key != document.device
        }
        if gpus or collector in self._gpus:
            self._gpus[collector] = gpus

    def sift(self, collector: str, block: Block) -> int:
        """Take out of a block of events what another collector has told; give how many rows that were.

        What stays and names only an address gets the GPU's own id.
        """
        types = block.strings.get("type")
        if block.measurement != EVENT or types is None or WINDOW_NS.keys().isdisjoint(types):
            return 0
        stamp, keep = block.start, []
        for row, (step, type_) in enumerate(zip(block.steps, types, strict=True)):
            stamp += step
            if type_ not in WINDOW_NS or not self._is_known(collector, block, row, type_, stamp):
                keep.append(row)
        gone = len(types) - len(keep)
        if gone and keep:
            _keep_rows(block, keep)
        return gone

    def _is_known(self, collector: str, block: Block, row: int, type_: str, stamp: int) -> bool:
        """Tell whether another collector has told it; otherwise take note of it, and name the GPU."""
        facts = _facts(block, row)
        when = _cell(block.ints.get("source_time_ns"), row) or stamp
        if type_ == _OF_BMC:
            return self._is_drivers(collector, block.keys[block.rows[row]][0], facts, when)
        address = facts.get("address")
        if not isinstance(address, str) or not address:
            return False
        self._name(block, row, f"{_PLACE}{address}", facts)
        name = (type_, address, facts.get("xid"))
        who, since = self._told.get(name, (collector, 0))
        if who != collector and abs(when - since) <= WINDOW_NS[type_]:
            return True
        self._told[name] = (collector, when)
        self._told.move_to_end(name)
        if len(self._told) > _MOST:
            self._told.popitem(last=False)
        return False

    def _is_drivers(self, collector: str, device: str, facts: _Facts, when: int) -> bool:
        """Tell whether the driver itself has told an Xid that a BMC tells of one of its GPUs."""
        if "cause" not in facts:  # an NVSwitch's numbers are others
            return False
        _, since = self._told.get((_OF_DRIVER, self._address(collector, device), facts.get("xid")), ("", 0))
        return abs(when - since) <= WINDOW_NS[_OF_BMC]

    def _address(self, collector: str, device: str) -> str:
        """Give the PCI address of a GPU by what another collector of this node calls the same part; "" for none."""
        own = {
            key
            for (who, _), gpus in self._keys.items()
            if who == collector
            for key in (device, *gpus.get(device, ()))
            if not key.startswith(_PLACE)
        }
        places = {
            tuple(key for key in keys if key.startswith(_PLACE))
            for (who, subject), gpus in self._keys.items()
            if who != collector and not subject
            for keys in gpus.values()
            if not own.isdisjoint(keys)
        }
        at = places.pop() if len(places) == 1 else ()
        return at[0].removeprefix(_PLACE) if len(at) == 1 else ""

    def _name(self, block: Block, row: int, place: str, facts: _Facts) -> None:
        key = block.keys[block.rows[row]]
        found = next((gpus[place] for gpus in self._gpus.values() if place in gpus), None)
        if found is None or key[0] != place:
            return
        device, uuid = found
        if [device, *key[1:]] not in block.keys:
            block.keys.append([device, *key[1:]])
        block.rows[row] = block.keys.index([device, *key[1:]])
        if uuid:
            block.strings["detail"][row] = _encoder.encode({**facts, "uuid": uuid}).decode()


def _cell(column: Sequence[_Cell | None] | None, row: int) -> _Cell | None:
    return None if column is None else column[row]


def _facts(block: Block, row: int) -> _Facts:
    text = _cell(block.strings.get("detail"), row)
    try:
        return _decoder.decode(text) if text else {}
    except msgspec.MsgspecError:
        return {}


def _keep_rows(block: Block, keep: list[int]) -> None:
    """Leave only these rows, at least one, in a block; their times stay."""
    stamps, stamp = [], block.start
    for step in block.steps:
        stamp += step
        stamps.append(stamp)
    kept = [stamps[row] for row in keep]
    block.start = kept[0]
    block.steps = [0, *(later - earlier for earlier, later in pairwise(kept))]
    block.rows = [block.rows[row] for row in keep]
    columns: Any
    for columns in (block.floats, block.ints, block.bools, block.strings):
        for name, column in columns.items():
            columns[name] = [column[row] for row in keep]
