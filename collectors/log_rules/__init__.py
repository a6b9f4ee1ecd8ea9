"""What the kernel's log says of devices, as typed events.

In order: `rule` (what a rule is), `gpu`, `pci`, `storage`, `network` and `machine` (the rules, as tables), `catalogue`
(all of them, and how a line finds its rule), `repeats` (what is told again and again is told once, with a count).

Only records of facility `kern` are looked at: no program can write those to the kernel log, nobody can forge a fault.
"""
