"""Command-line entry points of sas_jax; each is a thin absl script."""
