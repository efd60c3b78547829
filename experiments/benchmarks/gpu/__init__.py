"""The benchmark of one GPU."""
