"""Makes the tables and the return-cost figure anew from a results CSV.

python -m experiments.plot --results=runs/demo/results.csv --out=runs/demo/plots
"""

from absl import flags

from experiments import cli, data_flag
from sas_jax.errors import UserError, nearest

_RESULTS = cli.define_path("results", None, "CSV of episodes (required).")
_OUT = cli.define_path("out", None, "Folder to write (default: beside the CSV).")
_REFERENCE = flags.DEFINE_string("reference", "none", "Variant to compare with.")
_TOKENS = cli.define_path(
    "tokens", None, "CSV of experiments.follow_tokens: the matched-return baseline."
)

cli.answer_help(__name__, __doc__)

from sas_jax.files import atomic, results
from sas_jax.files.places import as_path
from sas_jax.report import figures, matched, tables, tokens


def main(argv):
    """Writes one figure per task and algorithm, and tables.md; prints the tables."""
    del argv
    if not _RESULTS.value:
        raise UserError("--results: expected a CSV written by experiments.evaluate")
    rows = results.read_results(_RESULTS.value)
    known, reference = results.variants_of(rows), _REFERENCE.value
    if reference not in known:
        raise UserError(
            f"--reference: no variant {reference!r}; expected one of "
            f"{', '.join(known)}{nearest(reference, known)}"
        )
    made = [
        *tables.summary_tables(rows),
        *tables.threshold_tables(rows),
        *tables.paired_tables(rows, reference),
    ]
    asked = tokens.read_tokens(_TOKENS.value) if _TOKENS.value else []
    if asked:
        made.append(matched.matched_table(rows, asked))
    episodes = None
    if data_flag.value():
        episodes = data_flag.load()
        shown = sorted({row.task for row in rows})
        if episodes.task not in shown:
            raise UserError(
                f"--data {episodes.source}: data of {episodes.task}; expected a task "
                f"of the results: {', '.join(shown)}"
            )
    out = as_path(_OUT.value or as_path(_RESULTS.value).parent / "plots")
    written = []
    for task, algo, members in tables.groups_of(rows):
        fits = episodes is not None and episodes.task == task
        written.append(
            figures.return_cost_figure(
                out / f"return_cost_{task}_{algo}.png",
                members,
                dataset_returns=episodes.returns() if fits else None,
                dataset_costs=episodes.cost_returns() if fits else None,
                curve=matched.means_of(asked) if asked else None,
                title=f"{task}, {algo}",
            )
        )
    text = "\n".join(table.markdown() for table in made)
    written.append(atomic.write_text(out / "tables.md", text))
    for table in made:
        print(table.text())
    print("wrote", *written)


if __name__ == "__main__":
    cli.run(main)
