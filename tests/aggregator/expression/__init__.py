"""Claims about the expression language."""
