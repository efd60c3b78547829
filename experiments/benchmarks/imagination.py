"""Imagination in trajectory-steps a second, and Algorithm 1 for a batch of episodes.

python -m experiments.benchmarks.imagination
python -m experiments.benchmarks.imagination --sizes=100 --densities=transition

compute and memory: shares of a step's time that its matrix products would take at the
matmul peak, and its ring and weights at the bandwidth, both measured in the same rounds
(cost model: flops.py). The rest is everything else; it falls below zero where the first
two caches hold what the model has read from further away.
"""

from absl import flags

from experiments import cli
from experiments.benchmarks import common, imagination_timing, model_cases, model_flags
from sas_jax.errors import UserError

_SIZES = flags.DEFINE_list("sizes", ["5", "20", "100", "1000"], "Trajectories at once.")
_HORIZON = flags.DEFINE_integer("horizon", 50, "Steps of a flat imagination.")
_DENSITIES = flags.DEFINE_list(
    "densities", list(imagination_timing.DENSITIES), "Kinds of log-density, or none."
)
_EPISODES = flags.DEFINE_list(
    "episodes", ["1", "20"], "Episodes at once of Algorithm 1; empty leaves it out."
)
_ALIGN_HORIZON = flags.DEFINE_integer("align_horizon", 1000, "T of Algorithm 1.")
_ALIGN_REPEATS = flags.DEFINE_integer("align_repeats", 3, "Rounds of Algorithm 1.")
_OUT = cli.define_path("out", "runs/bench/imagination.json", "Where numbers go.")


def main(argv):
    """Measures, prints the table and writes it as JSON."""
    del argv
    sizes = model_cases.numbers("sizes", _SIZES.value)
    episodes = _EPISODES.value and model_cases.numbers("episodes", _EPISODES.value)
    for name in _DENSITIES.value:
        if name not in imagination_timing.DENSITIES:
            raise UserError(
                f"--densities: unknown {name!r}; expected some of "
                f"{', '.join(imagination_timing.DENSITIES)}"
            )
    config = model_flags.make_config()
    if min(_HORIZON.value, _ALIGN_REPEATS.value, model_flags.REPEATS.value) < 1:
        raise UserError("--horizon, --repeats and --align_repeats: expected >= 1")
    if _ALIGN_HORIZON.value < config.sas.prompt_length:
        raise UserError(f"--align_horizon: expected >= {config.sas.prompt_length}")
    common.pin(model_flags.THREADS.value)
    clock = common.clock(model_flags.THREADS.value)
    spec = model_cases.make_spec(config)
    rows = imagination_timing.measure_flat(
        config,
        spec,
        densities=_DENSITIES.value,
        sizes=sizes,
        horizon=_HORIZON.value,
        repeats=model_flags.REPEATS.value,
        clock=clock,
    )
    more, calls = imagination_timing.measure_align(
        config,
        spec,
        episodes=episodes,
        horizon=_ALIGN_HORIZON.value,
        repeats=_ALIGN_REPEATS.value,
        clock=clock,
    )
    rows += more
    print(_table(rows, clock))
    print("\n".join(map(_call, calls)))
    settings = model_flags.settings(horizon=_HORIZON.value)
    common.finish(_OUT.value, settings, clock, {"rows": rows, "calls": calls})


def _table(rows, clock) -> str:
    headers = ["case", f"steps/s ({clock})", "[quartiles]", "wall", "MFLOP", "XLA's"]
    headers += ["kB moved", "compute", "memory", "rest", "bound by"]
    cells = []
    for row in rows:
        rate = row["steps_per_second"]
        xla = row.get("xla_flops")
        cells.append(
            [
                row["case"],
                f"{rate['median']:.0f}",
                f"[{rate['low']:.0f}-{rate['high']:.0f}]",
                f"{row['wall_steps_per_second']:.0f}",
                f"{row['model_flops'] / 1e6:.2f}",
                f"{xla / 1e6:.2f}" if xla else "",
                f"{row['bytes_per_step'] / 1e3:.0f}",
                *(f"{row['shares'][k]:.0%}" for k in ("compute", "memory", "rest")),
                row["bound"],
            ]
        )
    return common.table(headers, cells)


def _call(call) -> str:
    time = {k: v["median"] for k, v in call["seconds"].items()}
    return (
        f"Algorithm 1 (N = {call['num_first']}, M = {call['num_second']}, T = "
        f"{call['horizon']}) for {call['episodes']} episodes in one jit: "
        f"{time['cpu']:.2f} s CPU, {time['wall']:.2f} s wall, "
        f"{time['cpu'] / call['episodes']:.2f} s CPU an episode; "
        f"{call.get('temporary_bytes', 0) / 1e6:.0f} MB temporary, peak memory "
        f"{call['peak_bytes'] / 1e6:.0f} MB ({call['compiled_bytes'] / 1e6:.0f} once "
        f"compiled, which took {call['compile_seconds']:.0f} s)"
    )


if __name__ == "__main__":
    cli.run(main)
