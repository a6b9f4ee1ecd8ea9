"""Grafana dashboards as Python, one module per subject, and the JSON generated from them."""
