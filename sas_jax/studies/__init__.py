"""Measurements behind the claims: the bound, the signals, the landscape."""
