"""Many trainings and evaluations as one plan of cells, run by an engine."""
