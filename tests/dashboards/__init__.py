"""Claims about the dashboards."""
