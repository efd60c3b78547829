"""Environments: the task registry, the single environment, the vector environment.

Nothing here imports JAX: environment workers are plain numpy processes.
"""
