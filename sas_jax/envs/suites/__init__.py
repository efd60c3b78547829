"""The benchmark suites behind one interface."""
