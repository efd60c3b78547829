"""The cost critic: what the next steps will cost, regressed on data."""
