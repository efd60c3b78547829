"""What the learners on single steps are made of: networks, losses, multipliers.

Pure functions and small modules; an algorithm's file puts them together.
"""
