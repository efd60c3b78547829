"""Imagination in one program beside a PyTorch loop that encodes its history anew.

python -m experiments.benchmarks.torch.loop
python -m experiments.benchmarks.torch.loop --torch_horizon=100 --repeats=3

The plain loop re-encodes as the public SAS code does: for each trajectory and each
step, the last K steps go through the whole transformer for the action and once more for
the next state. It has the networks of our model and, up to K steps, the same outputs,
which is checked before anything is timed, and it is as lean as we could make it: fused
attention, no padding, heads at the last token only, the density from the pass that
predicts. Two further rows are dearer, as the public code is. One gets the terms of its
energy as that code does, from histories cut by one and by two steps; the other is that
code's own, smaller model with its passes, padding and heads (`torch_public`). `work` in
the JSON says what each row does. Ours is Algorithm 1's loop of N trajectories in one
jit. The targets are for the lean loop, one trajectory at a time and batched over N.

Needs the extra `torch`. Ratios are formed within a round, per trajectory-step. A
--torch_horizon below --horizon shortens the PyTorch loops and is written beside the
numbers; their first K steps have shorter histories and are cheaper than the others.
"""

from absl import flags

from experiments import cli
from experiments.benchmarks import common, model_cases, model_flags
from experiments.benchmarks.torch import timing as torch_timing
from sas_jax.errors import UserError

_COUNT = flags.DEFINE_integer("trajectories", 5, "N, trajectories imagined.")
_HORIZON = flags.DEFINE_integer("horizon", 1000, "T, steps of an imagination.")
_TORCH_HORIZON = flags.DEFINE_integer(
    "torch_horizon", 0, "T of the PyTorch loops; 0 means --horizon."
)
_OUT = cli.define_path("out", "runs/bench/torch_loop.json", "Where numbers go.")
TARGETS = {torch_timing.ONE: 100.0, torch_timing.BATCHED: 30.0}


def main(argv):
    """Compares, measures, prints the table and writes it as JSON."""
    del argv
    least = (_COUNT.value, _HORIZON.value, model_flags.REPEATS.value)
    if min(least) < 1 or _TORCH_HORIZON.value < 0:
        raise UserError(
            "--trajectories, --horizon, --repeats: expected >= 1; --torch_horizon: >= 0"
        )
    torch = torch_timing.require()
    config = model_flags.make_config()
    torch_timing.check_supported(config)
    common.pin(model_flags.THREADS.value)
    clock = common.clock(model_flags.THREADS.value)
    torch_horizon = _TORCH_HORIZON.value or _HORIZON.value
    rows, found = torch_timing.measure(
        config,
        model_cases.make_spec(config),
        count=_COUNT.value,
        horizon=_HORIZON.value,
        torch_horizon=torch_horizon,
        repeats=model_flags.REPEATS.value,
        clock=clock,
        threads=model_flags.THREADS.value,
    )
    rows = [row | {"target": TARGETS.get(row["case"])} for row in rows]
    print(_table(rows, clock))
    worst = max(found, key=found.get)
    print(f"largest difference of the outputs: {found[worst]:.1e} ({worst})")
    if torch_horizon != _HORIZON.value:
        print(f"PyTorch imagined {torch_horizon} steps, not {_HORIZON.value}")
    settings = model_flags.settings(
        trajectories=_COUNT.value,
        horizon=_HORIZON.value,
        torch_horizon=torch_horizon,
        torch=torch.__version__,
    )
    common.finish(_OUT.value, settings, clock, {"rows": rows, "differences": found})


def _table(rows, clock) -> str:
    headers = ["case", "T", f"us a trajectory-step ({clock})", "[quartiles]"]
    headers += ["s a run", "times ours", "[quartiles]", "target"]
    cells = []
    for row in rows:
        time, ratio = row["microseconds_a_step"], row["ratio"]
        cells.append(
            [
                row["case"],
                str(row["horizon"]),
                f"{time['median']:.0f}",
                f"[{time['low']:.0f}-{time['high']:.0f}]",
                f"{row['seconds'][clock]['median']:.2f}",
                f"{ratio['median']:.1f}",
                f"[{ratio['low']:.1f}-{ratio['high']:.1f}]",
                f">= {row['target']:.0f}" if row["target"] else "",
            ]
        )
    return common.table(headers, cells)


if __name__ == "__main__":
    cli.run(main)
