"""Ablations of the paper's appendix C, from a sweep whose methods differ in one thing.

A sweep's JSON says what every cell was trained and acts with. Cells that are alike but
for the settings of an ablation, and their training seed, are one group; it has a line
for each value.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sas_jax.errors import UserError
from sas_jax.files.results import EpisodeResult
from sas_jax.report.tables import Table, interval_text
from sas_jax.stats.intervals import layouts_of, mean_interval, metric_interval

# Name -> title, and the settings that it varies.
ABLATIONS = {
    "C1": ("imagined trajectories", ("sas.num_first", "sas.num_second")),
    "C2": ("time steps of an energy", ("sas.energy_window",)),
    "C3": ("length of the prompt", ("sas.prompt_length",)),
    "C4": ("fragments of the prompt", ("sas.fragments",)),
    "C5": ("size of the transformer", ("model.decoder.width", "model.decoder.depth")),
}
_METRICS = ("normalized_return", "normalized_cost", "failed")
NOT_RUN = "not run"


class _Cell(NamedTuple):
    """id: of the cell. value: of the ablation's settings. rest: all else, as text."""

    id: str
    value: tuple
    rest: str


def ablation_table(
    name: str,
    rows: Sequence[EpisodeResult],
    records: Mapping[str, Mapping[str, Any]],
    *,
    variant: str = "sas",
) -> Table:
    """One ablation: a line for every task, group and value that was run.

    Args:
      name: of `ABLATIONS`. rows: of a sweep. records: of its JSON, by a cell's id.
      variant: whose rows count.

    Raises:
      UserError: an unknown ablation.
    """
    lines = []
    for values in ablation_groups(name, rows, records, variant=variant):
        first = next(iter(values.values()))
        lines += [_line(value, found, first) for value, found in values.items()]
    title, paths = ABLATIONS[name]
    setting = ", ".join(path.rpartition(".")[2] for path in paths)
    header = ("task, method", setting, "layouts", "seeds", "norm. return")
    header += ("norm. cost", "any cost", "norm. cost minus the first value's")
    empty = ("all", NOT_RUN, *[""] * (len(header) - 2))
    notes = (
        f"Variant {variant}; cells that are alike but for {setting} and the training "
        "seed. [low, high]: 95% bootstrap over layouts; the difference is paired by "
        "layout, threshold and training seed.",
    )
    return Table(f"{name}: {title}", header, tuple(sorted(lines)) or (empty,), notes)


def ablation_groups(
    name: str,
    rows: Sequence[EpisodeResult],
    records: Mapping[str, Mapping[str, Any]],
    *,
    variant: str = "sas",
) -> list[dict[tuple, list[EpisodeResult]]]:
    """Groups of cells that differ in an ablation's settings: value -> rows, ascending.

    Arguments and errors as in `ablation_table`. Groups of one value are left out.
    """
    if name not in ABLATIONS:
        raise UserError(f"ablation {name!r}: expected one of {', '.join(ABLATIONS)}")
    paths = ABLATIONS[name][1]
    by_cell: dict[str, list[EpisodeResult]] = {}
    for row in rows:
        if row.variant == variant and not row.shift:
            by_cell.setdefault(row.extra.get("cell", ""), []).append(row)
    groups: dict[str, list[_Cell]] = {}
    for cell, record in records.items():
        if cell in by_cell:
            found = _cell(cell, record["description"], paths)
            groups.setdefault(found.rest, []).append(found)
    found = []
    for cells in groups.values():
        values = sorted({cell.value for cell in cells})
        if len(values) > 1:
            found.append({value: _rows(cells, value, by_cell) for value in values})
    return found


def _cell(name: str, description: Mapping[str, Any], paths: Sequence[str]) -> _Cell:
    """What a cell is in an ablation."""
    known = json.loads(json.dumps(description))
    acting = known["experiment"]
    acting["sas"] = known.pop("sas", acting["sas"])
    acting["train"].pop("seed")
    value = []
    for path in paths:
        *groups, leaf = path.split(".")
        group = acting
        for part in groups:
            group = group.get(part, {})
        value.append(group.pop(leaf, None))
    return _Cell(name, tuple(value), json.dumps(known, sort_keys=True))


def _rows(
    cells: Sequence[_Cell], value: tuple, by_cell: Mapping[str, list[EpisodeResult]]
) -> list[EpisodeResult]:
    return [row for cell in cells if cell.value == value for row in by_cell[cell.id]]


def _line(
    value: tuple, rows: Sequence[EpisodeResult], first: Sequence[EpisodeResult]
) -> tuple[str, ...]:
    """One value of one group. first: rows of the group's first value."""
    means = [metric_interval(rows, m) for m in _METRICS]
    partners = {_key(row): row.normalized_cost for row in first}
    pairs = [
        (row, row.normalized_cost - partners[_key(row)])
        for row in rows
        if _key(row) in partners
    ]
    difference = ""
    if pairs and rows[0] is not first[0]:
        shared, changes = zip(*pairs, strict=True)
        found = mean_interval(changes, clusters=layouts_of(shared))
        difference = interval_text(found, "normalized_cost", signed=True)
    return (
        f"{rows[0].task}, {rows[0].algo}",
        ", ".join(map(str, value)),
        str(len({row.episode_seed for row in rows})),
        str(len({row.train_seed for row in rows})),
        *(interval_text(x, m) for x, m in zip(means, _METRICS, strict=True)),
        difference,
    )


def _key(row: EpisodeResult) -> tuple:
    return row.episode_seed, row.cost_limit, row.train_seed
