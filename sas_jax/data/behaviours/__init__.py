"""Scripted drivers that record data of the navigation tasks."""
