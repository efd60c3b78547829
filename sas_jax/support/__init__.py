"""Where the data are, in states and actions: what imagined plans may be kept to."""
