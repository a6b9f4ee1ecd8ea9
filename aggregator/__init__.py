"""The fleet's side: ingest, the log, its consumers, the store, the control database, the API and the command line."""

import os

# Otherwise the first model reads the metadata of every distribution that is installed: 50 ms of every start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
