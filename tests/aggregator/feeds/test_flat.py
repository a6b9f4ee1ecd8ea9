"""CSV and JSON: the same rows and columns, absent is not zero."""

import csv
import io

from aggregator.feeds import flat
from tests.aggregator.feeds.worlds import V100, Server


def test_csv_says_what_json_says() -> None:
    server = Server()
    rows = flat.rows(server.state, server.state.nodes.values())
    read = list(csv.DictReader(io.StringIO(flat.as_csv(rows), newline="")))
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows] == read
    assert list(flat.COLUMNS) == list(read[0])
    assert 9 == len(read)


def test_absent_is_null_and_zero_is_zero() -> None:
    server = Server()
    row = flat.rows(server.state, server.state.nodes.values(), [V100])[0]
    assert (None, 19) == (row["numa_node"], row["iommu_group"])
    assert ("tesla-v100", "10de") == (row["variant"], row["pci_vendor_id"])


def test_what_a_device_says_is_no_formula() -> None:
    row = dict.fromkeys(flat.COLUMNS) | {"model": "=HYPERLINK(1)", "location": 'a,"b"'}
    (read,) = csv.DictReader(io.StringIO(flat.as_csv([row]), newline=""))
    assert ("'=HYPERLINK(1)", 'a,"b"') == (read["model"], read["location"])
