"""What is shipped in `compose/`: it is whole, sound, and works."""
