"""Reproduces tables of the paper from a sweep's rows, or a figure on a checkpoint.

python -m experiments.reproduce --table=1,2 --results=runs/sweep/results.csv
python -m experiments.reproduce --figure=4 --results=runs/sweep/results.csv

python -m experiments.reproduce --figure=bound --checkpoint=runs/pg1_dt --data=pg1.hdf5
python -m experiments.reproduce --figure=signals --checkpoint=runs/pg1_dt --layouts=128
python -m experiments.reproduce --figure=3 --checkpoint=runs/pg1_dt --data=pg1.hdf5
Run again with the same flags to resume.
"""

import shlex
import sys

from absl import flags

from experiments import cli, data_flag, settings_flag
from experiments.progress import work_bar
from sas_jax.errors import UserError, nearest

_CHECKPOINT = cli.define_path("checkpoint", None, "Workdir of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Training step (default: the last).")
_FIGURE = flags.DEFINE_string("figure", None, "One of bound, signals, 3, 4, 6.")
_OUT = cli.define_path("out", None, "Folder (default: CHECKPOINT/reproduce).")
_LAYOUTS = flags.DEFINE_integer("layouts", 64, "Layouts; figure 3 shows one.")
_FIRST_SEED = flags.DEFINE_integer("first_seed", 1_000_000, "Seed of the first layout.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the agents' draws.")
_TRAIN_SEED = flags.DEFINE_integer("train_seed", 0, "Index of the training seed.")
_LIMIT = flags.DEFINE_float("cost_limit", None, "Cost token (default: the task's).")
_TARGET = flags.DEFINE_float("target_return", None, "Return token (the checkpoint's).")
_TABLES = flags.DEFINE_list("table", [], "Tables of the paper: 1 to 8.")
_ABLATIONS = flags.DEFINE_list("ablation", [], "Ablations of its appendix: C1 to C5.")
_RECORDINGS = cli.define_path("recordings", None, "Folder of data, for --table=4.")
_RESULTS = cli.define_path(
    "results", None, "CSV of a sweep, for tables, ablations and figures 4 and 6."
)
_TASKS = flags.DEFINE_list("tasks", [], "Only these tasks of --table.")
_METHODS = flags.DEFINE_list(
    "methods", [], "Names in the CSV, for --table, e.g. dt:dt_long,cdt:cdt_long."
)
_FIRSTS = flags.DEFINE_list("num_first", ["1", "3", "5", "10", "30"], "N (bound).")
_SECONDS = flags.DEFINE_list("num_second", ["1", "3", "5", "10", "30"], "M (bound).")
_KAPPA = flags.DEFINE_float("kappa", 1.0, "Undefined constant of Prop. 4.2 (bound).")
_REPEATS = flags.DEFINE_integer("repeats", 8, "Draws per candidate segment (signals).")
_GRID = flags.DEFINE_integer("resolution", 41, "Places along a side (3).")
_YAW = flags.DEFINE_float("yaw", None, "Where the agent looks; none averages (3).")
_WORKERS = flags.DEFINE_integer("workers", None, "Environment processes (all cores).")

cli.answer_help(__name__, __doc__)

import numpy as np

from experiments import paper_tables
from experiments.reproductions import FIGURES, NEED_DATA, Request
from sas_jax import checkpoint
from sas_jax.files import atomic
from sas_jax.files.places import as_path
from sas_jax.report import ablation_figure
from sas_jax.studies import landscape
from sas_jax.studies.probe import make_probe


def _counts(flag: str, texts: list[str]) -> tuple[int, ...]:
    if not texts or not all(text.isdigit() and int(text) > 0 for text in texts):
        raise UserError(f"--{flag}: {','.join(texts)!r}; expected numbers such as 1,30")
    return tuple(int(text) for text in texts)


def _checked() -> str:
    """The figure's name, after a look at all flags that need no checkpoint."""
    figure = _FIGURE.value
    if figure not in FIGURES:
        known = ", ".join([*FIGURES, *ablation_figure.FIGURES])
        hint = nearest(figure, FIGURES) if figure else ""
        raise UserError(f"--figure: {figure!r}; expected one of {known}{hint}")
    if not _CHECKPOINT.value:
        raise UserError("--checkpoint: expected a workdir of experiments.train")
    if figure in NEED_DATA and not data_flag.value():
        raise UserError("--data is missing; expected data of the checkpoint's task")
    for flag, least in ((_LAYOUTS, 1), (_REPEATS, 2), (_GRID, 2)):
        if flag.value < least:
            raise UserError(f"--{flag.name}: {flag.value}; expected at least {least}")
    if not 0 <= _FIRST_SEED.value < 2**32 - _LAYOUTS.value:
        raise UserError(f"--first_seed: {_FIRST_SEED.value}; expected in [0, 2**32)")
    return figure


def _named() -> dict[str, str]:
    """Algorithm -> name of its method in the CSV."""
    pairs = [text.partition(":") for text in _METHODS.value]
    for algo, _, name in pairs:
        if not algo or not name:
            raise UserError(f"--methods: {algo!r}; expected pairs such as dt:dt_long")
    return {algo: name for algo, _, name in pairs}


def main(argv):
    """Measures, writes the files into --out and prints the table."""
    del argv
    command = shlex.join(["python", "-m", "experiments.reproduce", *sys.argv[1:]])
    drawn = [_FIGURE.value] if _FIGURE.value in ablation_figure.FIGURES else []
    if _TABLES.value or _ABLATIONS.value or drawn:
        places = [x and as_path(x) for x in (_RESULTS.value, _RECORDINGS.value)]
        lists = (_TABLES.value, _ABLATIONS.value, drawn)
        asked = paper_tables.Asked(*lists, *places, _TASKS.value, _named())
        beside = next((x.parent for x in places if x), as_path("."))
        out = as_path(_OUT.value or beside / "reproduce")
        for table in paper_tables.make(asked, out, command):
            print(table.text())
        made = [f"figure{name}.png and .pdf" for name in drawn]
        made += ["*.md, *.tex and *.csv"] if _TABLES.value or _ABLATIONS.value else []
        print(f"written to {out}: {', '.join(made)}")
        return
    figure = _checked()
    num_firsts = _counts("num_first", _FIRSTS.value)
    num_seconds = _counts("num_second", _SECONDS.value)
    loaded = checkpoint.load(_CHECKPOINT.value, _STEP.value)
    changed = settings_flag.apply(loaded.config, only="sas.")
    loaded = loaded._replace(config=changed)
    probe = make_probe(
        loaded,
        cost_limit=_LIMIT.value,
        seed=_SEED.value,
        train_seed=_TRAIN_SEED.value,
        density=landscape.DENSITY if figure == "3" else None,
        target_return=_TARGET.value,
    )
    out = as_path(_OUT.value or as_path(_CHECKPOINT.value) / "reproduce")
    count = 1 if figure == "3" else _LAYOUTS.value
    bar, progress = work_bar(f"figure {figure}")
    with bar:
        request = Request(
            probe=probe,
            episodes=data_flag.load(probe.task.name) if figure in NEED_DATA else None,
            out=out,
            command=command,
            title=f"{probe.task.name}, {loaded.config.algo}, step {loaded.step}",
            seeds=_FIRST_SEED.value + np.arange(count),
            progress=progress,
            num_workers=_WORKERS.value,
            num_firsts=num_firsts,
            num_seconds=num_seconds,
            kappa=_KAPPA.value,
            repeats=_REPEATS.value,
            resolution=_GRID.value,
            yaw=_YAW.value,
        )
        table = FIGURES[figure](request)
    text = f"`{command}`\n\n{table.markdown()}"
    name = "figure3" if figure == "3" else figure
    atomic.write_text(out / f"{name}.md", text)
    print(table.text())
    print(f"written to {out}: {name}.*")


if __name__ == "__main__":
    cli.run(main, resumes=True)
