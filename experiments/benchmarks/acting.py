"""Milliseconds of an acting step for a batch of episodes, with and without prompts.

python -m experiments.benchmarks.acting

One step is what evaluation pays between two steps of the environment: the call of the
jitted `act` with a donated carry, and the fetch of its actions.
"""

from absl import flags

from experiments import cli
from experiments.benchmarks import acting_timing, common, model_cases, model_flags
from sas_jax.errors import UserError

_SIZES = flags.DEFINE_list(
    "sizes",
    ["1", "20", "32", "60", "180"],
    "Rows at once; evaluation's blocks have 32.",
)
_STEPS = flags.DEFINE_integer("steps", 50, "Steps of a round.")
_OUT = cli.define_path("out", "runs/bench/acting.json", "Where the numbers go.")


def main(argv):
    """Measures, prints the table and writes it as JSON."""
    del argv
    sizes = model_cases.numbers("sizes", _SIZES.value)
    if min(_STEPS.value, model_flags.REPEATS.value) < 1:
        raise UserError("--steps and --repeats: expected integers >= 1")
    config = model_flags.make_config()
    common.pin(model_flags.THREADS.value)
    clock = common.clock(model_flags.THREADS.value)
    rows = acting_timing.measure(
        config,
        model_cases.make_spec(config),
        sizes=sizes,
        steps=_STEPS.value,
        repeats=model_flags.REPEATS.value,
        clock=clock,
    )
    print(_table(rows, clock))
    settings = model_flags.settings(sizes=sizes, steps=_STEPS.value)
    common.finish(_OUT.value, settings, clock, {"rows": rows})


def _table(rows, clock) -> str:
    headers = ["case", f"ms a step ({clock})", "[quartiles]", "wall", "MFLOP a row"]
    headers += ["XLA's", "of peak", "carry MB", "temporary MB", "ring copies"]
    cells = []
    for row in rows:
        time = row["milliseconds"]
        cells.append(
            [
                row["case"],
                f"{time['median']:.2f}",
                f"[{time['low']:.2f}-{time['high']:.2f}]",
                f"{row['wall_milliseconds']:.2f}",
                f"{row['model_flops'] / 1e6:.2f}",
                f"{row['xla_flops'] / 1e6:.2f}",
                f"{row['share_of_peak']:.0%}",
                f"{row['carry_bytes'] / 1e6:.1f}",
                f"{(row['temporary_bytes'] or 0) / 1e6:.1f}",
                str(row["ring_copies"]),
            ]
        )
    return common.table(headers, cells)


if __name__ == "__main__":
    cli.run(main)
