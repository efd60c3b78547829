"""The whole way on one task: collect, train, align, evaluate, report."""
