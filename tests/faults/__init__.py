"""The faults that the spine survives: processes killed, disks full, spools lost, no aggregator, clones, bad input."""
