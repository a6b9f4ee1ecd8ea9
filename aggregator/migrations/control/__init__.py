"""The revisions of the control database's schema, oldest first."""
