"""The words in which network functions are described, physical and virtual: one name and meaning for all sources."""

from typing import Final

from schemas.capabilities import Word

NIC_WORDS: Final = (
    Word("interface", str, "The host's network interface of it; absent when the host has none.", own=True),
    Word("mac", str, "The MAC address, lower case; of a virtual function, what its port gave it.", own=True),
    Word(
        "interface_mac",
        str,
        "The MAC address of a virtual function's interface where its port gave it another or none: it may be made up by"
        " its driver, and anew each time.",
        own=True,
    ),
    Word("mtu_bytes", int, "The largest packet that its interface takes.", own=True),
    Word("duplex", str, "`full` or `half`; absent without carrier.", own=True),
    Word("link_up", bool, "Whether the port had a carrier when it was described.", own=True),
    Word("nic_firmware_version", str, "Firmware, as the driver says it."),
    Word(
        "network_offloads",
        list[str],
        "What is done for packets and where, each `<what>=<hardware|software>`: `segmentation=hardware`,"
        " `ipsec=hardware`. Hardware: the card does it now.",
        own=True,
    ),
    Word(
        "network_offloads_off",
        list[str],
        "What the card could do and is switched off, as in `network_offloads` without a place; absent: nothing.",
        own=True,
    ),
    Word("usable_as", list[str], "What a virtual machine can be given it as: `vfio`, `vhost-user`, `virtio-net`."),
    Word("switch_id", str, "The switch in the card that it is a port of (switchdev), hexadecimal.", own=True),
    Word("representor", str, "The host's interface that stands for the virtual function at that switch.", own=True),
    Word("vf_counters", str, "Who counts for its virtual functions: `port`, or `none` when the driver does not."),
    Word("vlan", int, "VLAN that its port binds it to, 1 to 4094; 0 for none.", own=True),
    Word("vlan_qos", int, "Priority of that VLAN, 0 to 7; absent without a VLAN.", own=True),
    Word("vlan_protocol", str, "`802.1q` or `802.1ad`; absent without a VLAN.", own=True),
    Word("min_rate_bytes_per_second", int, "What its port keeps for it; absent: nothing.", own=True),
    Word("max_rate_bytes_per_second", int, "The most that its port lets it send; absent: no limit.", own=True),
    Word("spoof_check", bool, "Whether its port drops packets from other MAC addresses than its own.", own=True),
    Word("trust", bool, "Whether its port lets it change its MAC address and receive everything.", own=True),
    Word("rss_query", bool, "Whether it may read how its port spreads packets.", own=True),
    Word("link_state", str, "What its port shows it: `auto` (the port's own link), `enable` or `disable`.", own=True),
    Word("node_guid", str, "InfiniBand: GUID that its port gave it, hexadecimal.", own=True),
    Word("port_guid", str, "InfiniBand: GUID of its port, hexadecimal.", own=True),
    Word("card_controller_serial", str, "Serial number of the network controller, as its driver says it.", own=True),
    Word("card_board_serial", str, "Serial number of the board, as the driver says it.", own=True),
    Word("card_versions", list[str], "What cannot be changed of the card, each `<part>=<version>`: `board.id=X1`."),
    Word("firmware_running", list[str], "Firmware that runs, each `<part>=<version>`: `fw=22.41.1000`.", own=True),
    Word("firmware_stored", list[str], "Firmware that runs after the next reset, in the same way.", own=True),
    Word("eswitch_mode", str, "The switch in the card: `legacy`, or `switchdev`, with representors.", own=True),
    Word("eswitch_inline_mode", str, "Which headers go along with work: `none`, `link`, `network` ...", own=True),
    Word("eswitch_encapsulation", str, "Whether the switch takes tunnels apart: `none`, `basic`.", own=True),
    Word("port_flavour", str, "What port of the card's switch it is, or has: `physical`, `pcivf`, `pcipf`.", own=True),
    Word("port_number", int, "Which port on the outside of the card it is.", own=True),
    Word("port_index", int, "The devlink index of the port that stands for it.", own=True),
    Word(
        "driver_parameters",
        list[str],
        "Each `<name>.<when it takes effect>=<value>`: `enable_roce.driverinit=true`.",
        own=True,
    ),
    Word("function_mac", str, "The MAC address that the switch in the card gave the virtual function.", own=True),
    Word("function_active", bool, "Whether the switch in the card lets the function be used.", own=True),
    Word("function_attached", bool, "Whether a driver has the function, here or in a virtual machine.", own=True),
    Word(
        "rdma_links",
        list[str],
        "Its RDMA links, each `<device>/<port>=<Ethernet|InfiniBand>`: `mlx5_0/1=Ethernet`.",
        own=True,
    ),
    Word("rdma_firmware_version", str, "Firmware, as the RDMA driver says it.", own=True),
    Word("rdma_node_guid", str, "GUID of its RDMA device, hexadecimal.", own=True),
)  # fmt: skip
"""Sources: ip-link(8); linux/if_link.h, IFLA_VF_*; Documentation/networking/netdev-features.rst, switchdev.rst;
devlink-dev(8), devlink-port(8); Documentation/ABI/stable/sysfs-class-infiniband."""

OWN_NIC_WORDS: Final = frozenset(word.name for word in NIC_WORDS if word.own)
"""Names of the words that tell of one function and not of its making."""
