"""Claims about the fleet's side."""
