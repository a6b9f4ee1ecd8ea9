"""Claims on the node: does what the ledger asks for, by the operator's hooks, and confirms what the devices show.

`worker` knows what is to be done and what was done; `checkpoint` keeps what must outlive everything; `crew` has steps
performed, each in a process of its own (`runner`): the operator's hook (`hooks`), then the device itself is read
(`readback`), and after a clean its evidence is written (`proof`). `desk` is the root-only socket over which the node's
own orchestrator confirms the steps that no hook does.

Nothing that comes over the wire is ever a command or a path: a step names devices, and the configuration names hooks.
"""
