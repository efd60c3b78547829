"""Timings of the environments: plain, lean and bare physics in turns, and the vector.

Single environments are timed in CPU seconds of this process, so that other load on the
machine shows less; the vector environment in wall-clock seconds, since its workers are
other processes.
"""

import statistics
import time

import mujoco
import numpy as np

from sas_jax.data.behaviours import dials
from sas_jax.envs import tasks
from sas_jax.envs.make import make as make_env
from sas_jax.envs.vector.env import VectorEnv


def spread(values: list[float]) -> dict[str, float]:
    """Median, quartiles and number of some measurements."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "median": float(middle),
        "low": float(low),
        "high": float(high),
        "n": len(values),
    }


def time_task(name: str, *, num_steps: int, repeats: int, seed: int) -> dict:
    """Times one navigation task.

    Each repeat takes another layout and runs the same actions on all paths, one after
    the other. Returns medians and quartiles: microseconds a step for ``plain``,
    ``lean`` and ``physics``, milliseconds a reset, and ratios. That both paths give the
    same episodes is what tests/envs/test_lean.py shows.

    Physics alone is the least that any environment on this model must do: the ten
    substeps, moving targets included, and one forward pass for the sensors.
    """
    task = tasks.get_task(name)
    plain = make_env(task.name, lean=False)
    lean = make_env(task.name)
    times = {key: [] for key in ("plain", "lean", "physics", "reset", "plain_reset")}
    for repeat in range(repeats):
        episode = seed + repeat
        actions = _record(lean, task, episode, num_steps)
        times["plain_reset"].append(_cpu(lambda e=episode: plain.reset(e)) * 1e3)
        times["plain"].append(_per_step(plain.step, actions))
        times["reset"].append(_cpu(lambda e=episode: lean.reset(e)) * 1e3)
        times["lean"].append(_per_step(lean.step, actions))
        lean.reset(episode)
        times["physics"].append(_per_step(_physics(lean), actions))
    plain.close()
    lean.close()
    pairs = list(zip(times["plain"], times["lean"], times["physics"], strict=True))
    return {
        "task": task.name,
        **{key: spread(values) for key, values in times.items()},
        "speedup": statistics.median(p / fast for p, fast, _ in pairs),
        "lean_over_physics": statistics.median(fast / bare for _, fast, bare in pairs),
    }


def time_vector(name: str, num_workers: int, *, num_envs: int, num_steps: int) -> dict:
    """Times a vector environment. Returns wall seconds to start, reset and step."""
    task = tasks.get_task(name)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (num_steps, num_envs, task.action_dim))
    begin = time.perf_counter()
    with VectorEnv(name, num_envs, num_workers=num_workers) as env:
        started = time.perf_counter()
        env.reset(np.arange(num_envs))
        reset = time.perf_counter()
        for row in actions:
            env.step(row)
        end = time.perf_counter()
    return {
        "start_seconds": started - begin,
        "reset_ms_per_env": (reset - started) / num_envs * 1e3,
        "steps_per_second": num_envs * num_steps / (end - reset),
    }


def _record(env, task, seed, num_steps) -> np.ndarray:
    """Actions of a scripted driver who ignores costs. Returns `[num_steps, A]`."""
    observation, rows = env.reset(seed), []
    driver = dials.Behaviour(risk=1.0, speed=1.0, noise=0.3)
    act = dials.start(env, task.name, driver, seed, 0)
    for _ in range(num_steps):
        rows.append(act(observation))
        observation = env.step(rows[-1])[0]
    return np.array(rows)


def _physics(env):
    """A step function that runs MuJoCo and nothing else."""
    suite = env.unwrapped.task
    model, data = suite.model, suite.data
    movers = list(suite._mocaps.values())

    def step(action):
        data.ctrl[:] = np.clip(action, -1.0, 1.0)
        if not movers:
            mujoco.mj_step(model, data, nstep=10)
        else:
            for _ in range(10):
                env._gremlins.move(data.time)
                mujoco.mj_step(model, data)
        mujoco.mj_forward(model, data)

    return step


def _cpu(function) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def _per_step(step, actions) -> float:
    """CPU microseconds a step."""

    def run():
        for action in actions:
            step(action)

    return _cpu(run) / len(actions) * 1e6
