"""Step functions that make a sequence policy a `SequenceModel`."""
