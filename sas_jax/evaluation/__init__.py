"""Episodes on shared layouts: which ones, in which blocks, with which targets."""
