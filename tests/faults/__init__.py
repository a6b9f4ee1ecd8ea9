"""The faults that the spine survives: processes killed, disks full, files lost, clones, bad input."""
