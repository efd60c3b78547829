"""What `experiments.reproduce --table` and `--ablation` make of a sweep's rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sas_jax.data import dsrl
from sas_jax.errors import UserError
from sas_jax.files import atomic
from sas_jax.files.results import EpisodeResult, read_results
from sas_jax.report.ablation_figure import ablation_figure
from sas_jax.report.ablation_tables import ablation_table
from sas_jax.report.latex import as_csv, latex
from sas_jax.report.paper_facts import data_table, settings_table
from sas_jax.report.paper_tables import paper_table
from sas_jax.report.tables import Table
from sas_jax.sweeps.table import read_records


class Asked(NamedTuple):
    """What flags say.

    tables, ablations, figures: names. results: CSV of a sweep. recordings: folder of
    data, for table 4. tasks: the only ones. names: algorithm -> name of its method in
    the CSV.
    """

    tables: Sequence[str]
    ablations: Sequence[str]
    figures: Sequence[str]
    results: Path | None
    recordings: Path | None
    tasks: Sequence[str]
    names: dict[str, str]


def make(asked: Asked, out: Path, command: str) -> list[Table]:
    """All tables that are asked for: NAME.md, .tex and .csv each; figures as pictures.

    Raises:
      UserError: no results, an unknown table or ablation, a folder without data.
    """
    rows, records = _read(asked)
    made = {}
    for number in asked.tables:
        if number == "4":
            table = data_table(_recordings(asked.recordings))
        elif number == "5":
            table = settings_table(records)
        else:
            table = paper_table(number, rows, tasks=asked.tasks, names=asked.names)
        made[f"table{number}"] = table
    for name in asked.ablations:
        made[f"ablation{name}"] = ablation_table(name, rows, records)
    for name, table in made.items():
        text = f"`{command}`\n\n{table.markdown()}"
        atomic.write_text(out / f"{name}.md", text)
        atomic.write_text(out / f"{name}.tex", f"% {command}\n{latex(table)}")
        atomic.write_text(out / f"{name}.csv", as_csv(table))
    for number in asked.figures:
        for kind in ("png", "pdf"):
            ablation_figure(out / f"figure{number}.{kind}", number, rows, records)
    return list(made.values())


def _read(
    asked: Asked,
) -> tuple[list[EpisodeResult], Mapping[str, Mapping[str, Any]]]:
    """The sweep's rows and cells, as far as they are needed."""
    by_cell = asked.ablations or asked.figures
    if set(asked.tables) <= {"4"} and not by_cell:
        return [], {}
    if not asked.results:
        raise UserError("--results: expected the CSV of a sweep")
    rows, records = read_results(asked.results), {}
    if "5" in asked.tables or by_cell:
        records = read_records(asked.results.with_suffix(".json"))[0]
    return rows, records


def _recordings(folder: Path | None) -> list:
    """All data in a folder, such as a sweep's."""
    files = sorted(folder.glob("*.hdf5")) if folder else []
    if not files:
        raise UserError("--recordings: expected a folder of .hdf5 files, for table 4")
    return [dsrl.load(path) for path in files]
