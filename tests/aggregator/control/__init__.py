"""What is decided once: the control database and all that is decided in it."""
