"""One runnable script for each thing that Muster promises to a person."""
