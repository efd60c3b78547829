"""Speed of an environment on the device against the same task in the simulator.

    python -m experiments.benchmarks.jax_env
    python -m experiments.benchmarks.jax_env --episodes=4096 --host_steps=0   (a GPU)

Records whole episodes of random actions in one program; beside it, in the same run, the
fast path of PointGoal1 in this process. Writes the numbers to --out.
"""

import time

import jax
import numpy as np
from absl import flags

from experiments import cli
from experiments.benchmarks import results
from sas_jax.envs.make import make
from sas_jax.errors import UserError
from sas_jax.jax_envs import loop, point_goal

_EPISODES = flags.DEFINE_integer("episodes", 1024, "Episodes side by side.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Repeats; the median counts.")
_HOST_STEPS = flags.DEFINE_integer("host_steps", 2000, "Steps of the simulator.")
_OUT = cli.define_path("out", "runs/bench/jax_env.json", "Where the numbers go.")


def time_device(episodes: int, repeats: int) -> dict[str, float]:
    """Steps a second of wall and of CPU time, and seconds of compilation."""
    env = point_goal.make()
    numbers = np.arange(episodes, dtype=np.uint32)
    keys = jax.vmap(jax.random.key)(numbers)
    behaviour = loop.random_behaviour(env)
    begun = time.perf_counter()
    run = loop.record.lower(env, behaviour, keys, env.episode_steps).compile()
    compiled = time.perf_counter() - begun
    wall, cpu = [], []
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(run(keys))
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    steps = episodes * env.episode_steps
    return {
        "steps_per_second": steps / float(np.median(wall)),
        "steps_per_cpu_second": steps / float(np.median(cpu)),
        "compile_seconds": compiled,
    }


def time_host(steps: int) -> dict[str, float]:
    """Steps a second of wall and of CPU time of PointGoal1's fast path, one process."""
    env, rng = make("PointGoal1"), np.random.default_rng(0)
    env.reset(0)
    begun, used = time.perf_counter(), time.process_time()
    for number in range(steps):
        *_, terminated, truncated = env.step(rng.uniform(-1, 1, 2))
        if terminated or truncated:
            env.reset(number)
    return {
        "steps_per_second": steps / (time.perf_counter() - begun),
        "steps_per_cpu_second": steps / (time.process_time() - used),
    }


def main(argv):
    """Measures both, prints them and writes them."""
    del argv
    for flag in (_EPISODES, _REPEATS):
        if flag.value < 1:
            raise UserError(f"--{flag.name}: expected at least 1")
    device = jax.devices()[0]
    measured = {
        "device": device.device_kind,
        "jax": time_device(_EPISODES.value, _REPEATS.value),
    }
    if _HOST_STEPS.value > 0:
        measured["simulator"] = time_host(_HOST_STEPS.value)
    for name in ("jax", "simulator"):
        if name in measured:
            known = measured[name]
            print(
                f"{name}: {known['steps_per_second']:.0f} steps/s, "
                f"{known['steps_per_cpu_second']:.0f} a second of CPU"
            )
    settings = {"episodes": _EPISODES.value, "repeats": _REPEATS.value}
    results.write_json(_OUT.value, settings, measured)
    print(f"written to {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
