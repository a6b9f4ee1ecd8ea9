"""Real servers for tests: found, installed, started on a free port, stopped."""
