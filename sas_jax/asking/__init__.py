"""Which return to ask for, learnt from data: the return token follows the budget."""
