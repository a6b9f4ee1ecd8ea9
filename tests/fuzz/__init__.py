"""Bytes from nowhere, thrown at everything that reads bytes, for as long as one likes."""
