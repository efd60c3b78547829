"""The world-model card as a table."""

from collections.abc import Mapping

from sas_jax.card.verdict import card_lines
from sas_jax.report.tables import NO_VALUE, Table


def card_table(card: Mapping, title: str = "World-model card") -> Table:
    """The card as a table of number, value, target and mark."""
    lines = card_lines(card)
    rows = tuple(
        (line.name, line.text, line.target or NO_VALUE, line.mark or NO_VALUE)
        for line in lines
    )
    judged = [line for line in lines if line.mark]
    poor = [line for line in judged if line.mark == "poor"]
    notes = (f"{len(judged) - len(poor)} of {len(judged)} targets met.",)
    if poor:
        notes += (
            "Poor: energies and selections are computed over an imagination that does "
            "not match the data in these respects.",
        )
    return Table(title, ("held-out episodes", "value", "target", "mark"), rows, notes)
