"""Measurements against the bars of the design, each beside its peer where the peer can run."""
