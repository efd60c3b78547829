"""How Algorithm 1's cost grows with N, M, T and the number of episodes.

python -m experiments.benchmarks.scaling
python -m experiments.benchmarks.scaling --first=5,10 --second= --horizons=

Each size is swept alone around N = M = 5, T = 1000, B = 20. Counted bytes: the rings of
K - 1 steps, one a trajectory, and the imagined steps; measured beside them: the
temporary memory of the compiled program. The exponent of time is the slope of a
straight line through the medians on log-log axes; 1 is linear growth. Along N and M it
is the exponent in N + M. The headline is B = 60 episodes at once, in seconds an
episode.
"""

import itertools
from pathlib import Path

from absl import flags

from experiments import cli
from experiments.benchmarks import (
    common,
    model_cases,
    model_flags,
    scaling_figure,
    scaling_timing,
)
from experiments.benchmarks.scaling_timing import Point
from sas_jax.errors import UserError

_LISTS = {
    "N": flags.DEFINE_list("first", ["1", "2", "5", "10", "20"], "N; empty: base."),
    "M": flags.DEFINE_list("second", ["1", "2", "5", "10", "20"], "M; empty: base."),
    "T": flags.DEFINE_list(
        "horizons", ["125", "250", "500", "1000"], "T of the sweep."
    ),
    "B": flags.DEFINE_list("episodes", ["1", "5", "20", "60"], "B of the sweep."),
}
_BASE = flags.DEFINE_list("base", ["5", "5", "1000", "20"], "N, M, T and B otherwise.")
_HEADLINE = flags.DEFINE_integer("headline", 60, "Episodes of the headline.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds; takes the place of --repeats.")
_OUT = cli.define_path(
    "out", "runs/bench/scaling.json", "Where the numbers go; the figure lies beside it."
)
_BYTES = ("temporary", "cache", "step")
TARGET = 1.2  # seconds an episode on one core


def main(argv):
    """Measures, prints the tables, writes the JSON and the figure."""
    del argv
    base = model_cases.numbers("base", _BASE.value)
    if len(base) != 4 or min(_HEADLINE.value, _ROUNDS.value) < 1:
        raise UserError("--base: expected N,M,T,B; --headline and --rounds: >= 1")
    base = Point(*base)
    axes = scaling_timing.sweep(
        base,
        {
            axis: model_cases.numbers(flag.name, flag.value or [str(base[i])])
            for i, (axis, flag) in enumerate(_LISTS.items())
        },
    )
    config = model_flags.make_config()
    shortest = min(point.T for point in itertools.chain(*axes.values()))
    if shortest < config.sas.prompt_length:
        raise UserError(
            f"--horizons and --base: T of {shortest} is below the prompt's "
            f"{config.sas.prompt_length} steps"
        )
    common.pin(model_flags.THREADS.value)
    clock = common.clock(model_flags.THREADS.value)
    headline = base._replace(B=_HEADLINE.value)
    rows = scaling_timing.measure(
        config,
        model_cases.make_spec(config),
        [*itertools.chain(*axes.values()), headline],
        repeats=_ROUNDS.value,
        clock=clock,
    )
    exponents = scaling_timing.growth(axes, rows, clock)
    print(_table(rows.values(), clock))
    for axis, found in exponents.items():
        words = (f"{k} {v:.2f}" for k, v in found.items() if v is not None)
        print(f"exponents along {axis}: {', '.join(words) or 'one size only'}")
    best = rows[headline]["seconds_an_episode"]
    print(
        f"{headline.name}: {best['median']:.2f} [{best['low']:.2f}-{best['high']:.2f}] "
        f"s {clock} an episode (target at T = 1000: {TARGET})"
    )
    picture = Path(_OUT.value).with_suffix(".png")
    scaling_figure.scaling_figure(picture, axes, rows, exponents, clock)
    settings = model_flags.settings(base=base._asdict(), rounds=_ROUNDS.value)
    measured = {
        "rows": list(rows.values()),
        "exponents": exponents,
        "headline": rows[headline] | {"target": TARGET},
    }
    common.finish(_OUT.value, settings, clock, measured)


def _table(rows, clock) -> str:
    headers = ["case", f"s ({clock})", "[quartiles]", "s an episode"]
    headers += ["temporary MB", "rings MB", "steps MB", "compiled in s"]
    cells = []
    for row in rows:
        time = row["seconds"][clock]
        cells.append(
            [
                row["case"],
                f"{time['median']:.2f}",
                f"[{time['low']:.2f}-{time['high']:.2f}]",
                f"{row['seconds_an_episode']['median']:.3f}",
                *(f"{(row[f'{k}_bytes'] or 0) / 1e6:.1f}" for k in _BYTES),
                f"{row['compile_seconds']:.0f}",
            ]
        )
    return common.table(headers, cells)


if __name__ == "__main__":
    cli.run(main)
