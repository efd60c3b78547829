"""Benchmarks: each prints one table and writes JSON; nothing here asserts a time."""
