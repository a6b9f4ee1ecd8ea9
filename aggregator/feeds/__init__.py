"""Feeds hand the inventory to other schedulers, and check what people wrote for those by hand.

Each feed is a plain function of the ledger's state. What it leaves out it says, with the reason.
"""
