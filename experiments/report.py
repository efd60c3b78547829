"""Writes the page of an evaluation: verdict, pictures and tables, as .md and .html.

python -m experiments.report --checkpoint=runs/pg1_dt
python -m experiments.report --results=runs/pg1_dt/results.csv --out=runs/pg1_dt/page
"""

import json

from absl import flags

from experiments import cli
from sas_jax.errors import UserError

_CHECKPOINT = cli.define_path(
    "checkpoint", None, "Workdir of experiments.train: its results, curves and card."
)
_RESULTS = cli.define_path(
    "results", None, "CSV of experiments.evaluate (default: CHECKPOINT/results.csv)."
)
_OUT = cli.define_path("out", None, "Folder (default: report, beside the CSV).")
_TITLE = flags.DEFINE_string("title", None, "Heading (default: the tasks' names).")
_REFERENCES = flags.DEFINE_list(
    "references", None, "Variants to compare with (default: none and rand)."
)

cli.answer_help(__name__, __doc__)

from sas_jax.files import results
from sas_jax.files.places import as_path
from sas_jax.report import figures, html, page, tables


def main(argv):
    """Draws what there is, writes both pages and prints their paths."""
    del argv
    if not (_CHECKPOINT.value or _RESULTS.value):
        raise UserError("--checkpoint or --results: expected one of them")
    table = as_path(_RESULTS.value or as_path(_CHECKPOINT.value) / "results.csv")
    rows = results.read_results(table)
    out = as_path(_OUT.value or table.parent / "report")
    drawn = []
    for task, algo, members in tables.groups_of(rows):
        drawn.append(
            (
                figures.return_cost_figure(
                    out / f"return_cost_{len(drawn)}.png",
                    members,
                    title=f"{task}, {algo}",
                ),
                f"Return against cost of every episode, {task}, {algo}.",
            )
        )
    card, command = None, None
    if _CHECKPOINT.value:
        from sas_jax import checkpoint

        card = checkpoint.load(_CHECKPOINT.value).card
        curves = as_path(_CHECKPOINT.value) / "metrics.csv"
        if curves.exists():
            drawn.append(
                (
                    figures.training_figure(out / "training.png", curves),
                    "Training: loss terms, and on held-out episodes (val).",
                )
            )
        if card:
            picture = figures.card_figure(out / "card.png", card)
            drawn.append((picture, "The world-model card, on held-out episodes."))
    beside = table.with_suffix(".json")
    if beside.exists():
        command = "\n".join(json.loads(beside.read_text()).get("commands", []))
    names = ", ".join(sorted({row.task for row in rows}))
    sections = {
        "title": _TITLE.value or f"Evaluation on {names}",
        "summary": f"{len(rows)} rows of `{table.name}`.",
        "command": command,
        "results": rows,
        "references": _REFERENCES.value,
        "card": card,
        "figures": [(str(path), caption) for path, caption in drawn],
    }
    written = page.write_report(out / "report.md", sections)
    print(written)
    print(html.write_html(written, out / "report.html"))


if __name__ == "__main__":
    cli.run(main)
