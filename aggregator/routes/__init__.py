"""The HTTP API, one module a subject. What it can do is in the service; here is only what HTTP needs."""
