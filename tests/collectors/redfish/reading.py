"""A simulated BMC as the collector reads it."""

from typing import Any, Self

from collectors.redfish.client import Client
from collectors.redfish.config import Bmc as Address
from collectors.redfish.config import RedfishConfig
from collectors.redfish.connection import Trust
from collectors.redfish.reader import Reader
from schemas.rows import Reading
from tests.fakes.redfish import Bmc


class Reads:
    """What is read of one BMC, whose name is `b`."""

    def __init__(self, bmc: Bmc, **options: Any) -> None:
        self.bmc = bmc
        self.config = RedfishConfig(**({"answer_seconds": 5.0} | options))
        address = Address(address=bmc.url, name="b", user=bmc.user, password=bmc.password)
        self.client = Client(address, self.config, Trust(ca_file=self.config.ca_file))
        self.reader = Reader(self.client, self.config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.log_out()

    def rows(self) -> list[Reading]:
        """Read once."""
        return list(self.reader.read())
