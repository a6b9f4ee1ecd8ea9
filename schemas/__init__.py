"""The words that every part of Muster shares: types, units, declarations and the wire codec. No I/O.

Read in this order: `verbosity` (classes and levels), `metrics` (declarations), `batch` (what travels),
`codec` (how it travels), `account` and `intervals` (how nothing gets lost unseen).
"""

__version__ = "0.1.0"
"""The version of the distribution `rackmuster`; hatchling reads it from here."""
