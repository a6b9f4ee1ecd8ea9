"""The revisions of the ledger's database."""
