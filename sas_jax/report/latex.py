"""A table of texts as LaTeX and as CSV."""

import csv
import io

from sas_jax.report.tables import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
}


def latex(table: Table) -> str:
    """A `table` environment; the notes stand in its caption. Needs booktabs."""

    def line(cells):
        return " & ".join(map(escaped, cells)) + r" \\"

    notes = " ".join((f"{table.title}.", *table.notes))
    parts = [
        r"\begin{table}",
        rf"\caption{{{escaped(notes)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        line(table.header),
        r"\midrule",
        *(line(row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text in which nothing is a command of LaTeX."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def as_csv(table: Table) -> str:
    """Header and rows; the notes are left out."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([table.header, *table.rows])
    return out.getvalue()
