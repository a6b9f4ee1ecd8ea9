"""Placement: which devices, on which nodes, and if none, exactly why not.

Read in this order: `request` (what can be asked for), `layout` and `summary` (a node as placement sees it), `index`
(all nodes, kept up to date), `plan` (a request against one layout), `classes`, `rank`, `mig`, `divide`, `solve` and
`solver` (one node), `choose` and `stacking` (all nodes, gangs), `placing` (the decision that grants what was chosen),
`refusal`, `edits`, `explain` and `whatif`.

It solves by symmetry: nodes of one layout share everything but bit masks of what is available; devices that nothing
tells apart form a class; classes are counted first, and devices are picked last. So a "no" costs what a "yes" costs.
What is chosen is granted by `ledger.claims.grant`, in the same decision: placement proposes, the ledger decides.
"""
