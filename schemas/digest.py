"""BLAKE2b. `hashlib` would load OpenSSL for it, 1 MB in every process of the agent.

Source: RFC 7693; CPython, `Lib/hashlib.py`, whose `blake2b` is this very one.
"""

try:
    from _blake2 import blake2b
except ImportError:  # a Python that has it elsewhere
    from hashlib import blake2b

__all__ = ["blake2b"]
