"""Intervals, resampling and rank statistics; numpy only."""
