"""Claims about the shared words and the wire codec."""
