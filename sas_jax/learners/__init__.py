"""One file per algorithm; each returns the same `Learner`."""
