"""Many environments in worker processes."""
