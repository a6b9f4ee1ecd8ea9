"""Claims about the repository itself: what is shipped, what is generated, what is pinned."""
