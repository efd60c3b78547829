"""What is written to disk besides checkpoints; atomic, numpy only."""
