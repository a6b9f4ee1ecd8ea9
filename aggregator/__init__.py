"""The fleet's side: ingest, the log, its consumers, the store, the control database, the API and the command line."""
