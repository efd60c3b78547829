"""The fast path of the navigation tasks: same episodes, less Python."""
