"""For --import: the task of `short_goal` is known once this is imported."""

from tests.helpers import short_goal

short_goal.register()
