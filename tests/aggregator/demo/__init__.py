"""Demonstrations: needs, narration, fleets. That they play is shown by `tests/acceptance/scenarios.py`."""
