"""A third party's distribution of collectors, each of which does one thing that it must not."""
