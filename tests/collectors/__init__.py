"""Claims about the node's side."""
