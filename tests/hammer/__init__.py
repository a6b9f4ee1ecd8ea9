"""The hammer: many writers at once over HTTP, and an independent reader that nothing was ever given twice."""
