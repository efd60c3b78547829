"""Speed of an environment on the device against the same task in the simulator.

    python -m experiments.benchmarks.jax_env
    python -m experiments.benchmarks.jax_env --episodes=4096 --acting=4096  (a GPU)

In one run: random actions, the plain policy and plans, each in whole episodes that are
one program on the device, and as evaluation runs them in the simulator. Weights are
made up: what was learnt costs no time. Writes the numbers to --out.
"""

from absl import flags

from experiments import cli
from experiments.benchmarks import common, jax_env_timing, model_cases, model_flags
from sas_jax.errors import UserError

_EPISODES = flags.DEFINE_integer("episodes", 1024, "Recorded side by side.")
_STEPS = flags.DEFINE_integer("steps", 1000, "Steps of a recorded episode.")
_HOST_STEPS = flags.DEFINE_integer("host_steps", 2000, "Random ones of the simulator.")
_ACTING = flags.DEFINE_integer("acting", 32, "Episodes of a policy side by side.")
_ACTING_STEPS = flags.DEFINE_integer("acting_steps", 50, "Steps of its episodes.")
_HOST_ACTING = flags.DEFINE_integer("host_acting", 32, "In the simulator; 0: none.")
_OUT = cli.define_path("out", "runs/bench/jax_env.json", "Where the numbers go.")


def main(argv):
    """Measures all cases, prints them and writes them."""
    del argv
    for flag in (_EPISODES, _STEPS, _ACTING, _ACTING_STEPS, model_flags.REPEATS):
        if flag.value < 1:
            raise UserError(f"--{flag.name}: expected at least 1")
    config = model_flags.make_config()
    common.pin(model_flags.THREADS.value)
    spec, repeats = model_cases.make_spec(config), model_flags.REPEATS.value
    rows = []

    def add(row):
        rows.append(row)
        print(
            f"{row['case']}, {row['episodes']} at once: {row['steps_per_second']:.0f} "
            f"steps/s, {row['steps_per_cpu_second']:.0f} a second of CPU",
            flush=True,
        )

    add(jax_env_timing.record_on_device(_EPISODES.value, _STEPS.value, repeats))
    if _HOST_STEPS.value > 0:
        add(jax_env_timing.record_in_simulator(_HOST_STEPS.value))
    for variant in ("none", "plan"):
        places = [(jax_env_timing.act_on_device, _ACTING.value)]
        if _HOST_ACTING.value > 0:
            places.append((jax_env_timing.act_in_simulator, _HOST_ACTING.value))
        for measure, episodes in places:
            add(
                measure(
                    config,
                    spec,
                    variant,
                    episodes=episodes,
                    steps=_ACTING_STEPS.value,
                    repeats=repeats,
                )
            )
    settings = model_flags.settings(
        episodes=_EPISODES.value,
        steps=_STEPS.value,
        acting=_ACTING.value,
        acting_steps=_ACTING_STEPS.value,
    )
    common.finish(_OUT.value, settings, "wall", {"rows": rows})


if __name__ == "__main__":
    cli.run(main)
