"""The same work in PyTorch, for comparison."""
