"""How the control database came to be: one folder of alembic revisions for each schema."""
