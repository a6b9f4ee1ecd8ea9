"""Tests that need a machine of their own: power loss, clock steps, devices that this machine lacks."""
