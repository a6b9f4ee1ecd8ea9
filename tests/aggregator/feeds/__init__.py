"""The feeds: nova, Triton, flat tables."""
