"""Run by the Python that has nova: what nova's own parser makes of configurations, as JSON.

Reads a list of questions, each an object with `device_spec` and `alias` (lists of texts, as in nova.conf), `devices`
(each with `vendor_id`, `product_id`, `address`, `parent_addr`) and `physical_functions` (addresses). Prints a list of
answers: `assigned`, the addresses that nova would give away, `aliases`, and `refused`, what it says of a wrong one.

Source: nova/pci/whitelist.py, nova/pci/request.py.
"""

import json
import sys
from typing import Any


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Ask nova."""
    import nova.conf  # type: ignore[import-not-found]  # only where nova is
    from nova import exception
    from nova.pci import request, utils, whitelist  # type: ignore[import-not-found]

    functions = set(asked["physical_functions"])
    # nova looks into /sys of the host that it runs on: ours is another one
    utils.is_physical_function = lambda *fields: "{}:{}:{}.{}".format(*fields) in functions
    nova.conf.CONF.set_override("alias", asked["alias"], group="pci")
    nova.conf.CONF.set_override("pci_in_placement", True, group="filter_scheduler")
    nova.conf.CONF.set_override("report_in_placement", True, group="pci")
    request.get_alias_from_config.cache_clear()
    try:
        listed = whitelist.Whitelist(asked["device_spec"])
        assigned = [one["address"] for one in asked["devices"] if listed.device_assignable(one)]
        aliases = request.get_alias_from_config() if asked["alias"] else {}
    except exception.NovaException as error:
        return {"assigned": [], "aliases": {}, "refused": str(error) or type(error).__name__}
    return {"assigned": assigned, "aliases": aliases, "refused": ""}


if __name__ == "__main__":
    json.dump([answer(asked) for asked in json.load(sys.stdin)], sys.stdout)
