"""Learning while acting: updates and environment steps a second; seeds by vmap.

python -m experiments.benchmarks.online
python -m experiments.benchmarks.online --algos=sac --torch

On a point mass in JAX, networks of 64 x 64 and batches of 128 as `experiments.ladder`
has them, whole iterations: acting, environments, buffer, updates. With --torch a step
of SAC in PyTorch is timed beside ours, after both have said the same losses for the
same parameters; it neither acts nor keeps a buffer (extra `torch`). On an accelerator
the same command measures wall time.
"""

import time

import jax
from absl import flags

from experiments import cli
from experiments.benchmarks import common, model_cases, model_flags
from sas_jax import learners
from sas_jax.errors import UserError
from sas_jax.jax_envs import point_mass
from sas_jax.learners import sac_alam
from sas_jax.online import chunk as chunk_lib
from sas_jax.online import fit as online_fit
from sas_jax.studies import ladder

_ALGOS = flags.DEFINE_list("algos", ["sac", "sac_alam"], "Rungs of the ladder.")
_LANES = flags.DEFINE_list("lanes", ["1", "10"], "Seeds at once, for each a case.")
_UPDATES = flags.DEFINE_integer("updates", 100, "Updates of a call.")
_TORCH = flags.DEFINE_bool("torch", False, "Time a step of SAC in PyTorch, too.")
_OUT = cli.define_path("out", "runs/bench/online.json", "Where the numbers go.")
_PYTORCH = "sac in PyTorch, 1 seed"


def _case(algo, seeds, updates, env, spec):
    """Iterations of all seeds in one call, and what is known of the program."""
    config = ladder.make_config(algo, seeds=seeds, updates=updates, chunk=updates)
    states, world = online_fit.start(config, spec, env)
    chunk = chunk_lib.make_chunk(config, spec, env, updates)
    started = time.perf_counter()
    compiled = chunk.lower(states, world).compile()
    held = [states, world]

    def run():
        held[0], held[1], metrics = compiled(*held)
        return metrics

    steps = config.model.num_envs / config.model.updates_per_step
    facts = {"compile_seconds": time.perf_counter() - started, "steps": steps}
    return common.timed(run), facts | {"algo": algo, "seeds": seeds}


def _torch_case(updates, spec):
    """Updates in PyTorch on batches drawn anew, and how far its losses differ."""
    from experiments.benchmarks.torch import timing

    torch = timing.require()
    torch.set_num_threads(model_flags.THREADS.value)
    from experiments.benchmarks.torch import sac

    config = ladder.make_config("sac", seeds=1, updates=updates, chunk=updates)
    found = sac.differences(config, spec)
    timing.require_equal(found)
    learner = learners.get("sac").make_learner(config, spec)
    state = learner.init(jax.random.key(0), float("nan"))
    model = sac.TorchSAC(config, state.params, state.extra["targets"]["critic"])
    every = sac.as_tensors(sac.make_batch(spec, 10_000))
    size = config.train.batch_rows

    def run():
        for _ in range(updates):
            row = torch.randint(0, 10_000, (size,))
            batch = {name: x[row] for name, x in every.items()}
            noise = {k: torch.randn(size, spec.action_dim) for k in ("after", "actor")}
            model.update(batch, noise)

    facts = {"compile_seconds": 0.0, "steps": 0.0, "algo": "torch", "seeds": 1}
    return common.timed(run), facts, found


def main(argv):
    """Measures, prints the table and writes it as JSON."""
    del argv
    for algo in _ALGOS.value:
        if algo not in sac_alam.LADDER:
            raise UserError(f"--algos: unknown {algo!r}; {', '.join(sac_alam.LADDER)}")
    lanes, updates = model_cases.numbers("lanes", _LANES.value), _UPDATES.value
    if updates < 1 or updates % 20 or model_flags.REPEATS.value < 1:
        raise UserError("--updates: expected a multiple of 20; --repeats: >= 1")
    common.pin(model_flags.THREADS.value)
    clock = common.clock(model_flags.THREADS.value)
    env = point_mass.make()
    spec = online_fit.make_spec(ladder.TASK, env)
    cases, facts, found = {}, {}, {}
    for algo in _ALGOS.value:
        for seeds in lanes:
            name = f"{algo}, {seeds} seed{'s' if seeds > 1 else ''}"
            cases[name], facts[name] = _case(algo, seeds, updates, env, spec)
    if _TORCH.value:
        cases[_PYTORCH], facts[_PYTORCH], found = _torch_case(updates, spec)
    samples = common.interleave(cases, model_flags.REPEATS.value, "updates")
    rows = []
    for name, known in facts.items():
        seconds = common.spread([getattr(run, clock) for run in samples[name]])
        single = f"{known['algo']}, 1 seed"
        has_gain = known["seeds"] > 1 and single in samples
        rate = known["seeds"] * updates / seconds["median"]
        rows.append(
            {
                "case": name,
                "milliseconds": {k: 1e3 * v / updates for k, v in seconds.items()},
                "seed_updates_a_second": rate,
                "environment_steps_a_second": rate * known["steps"],
                "gain": known["seeds"]
                * common.ratio(samples[single], samples[name], clock)
                if has_gain
                else None,
                **known,
            }
        )
    headers = ["case", f"ms an update ({clock})", "updates/s", "env steps/s", "gain"]
    cells = [
        [
            row["case"],
            f"{row['milliseconds']['median']:.2f}",
            f"{row['seed_updates_a_second']:.0f}",
            f"{row['environment_steps_a_second']:.0f}",
            "" if row["gain"] is None else f"{row['gain']:.2f}",
        ]
        for row in rows
    ]
    print(common.table(headers, cells))
    for name, value in found.items():
        print(f"PyTorch's {name} differs by {value:.1e}")
    settings = model_flags.settings(updates=updates, lanes=_LANES.value)
    common.finish(_OUT.value, settings, clock, {"rows": rows, "differences": found})


if __name__ == "__main__":
    cli.run(main)
