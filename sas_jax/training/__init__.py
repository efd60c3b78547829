"""The training loop: resume, devices, failed seeds, curves."""
