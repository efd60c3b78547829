"""An environment that can be tried out: copies of the present step by themselves."""
