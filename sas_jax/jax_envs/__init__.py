"""Environments that run on the accelerator: pure functions, whole loops in one jit."""
