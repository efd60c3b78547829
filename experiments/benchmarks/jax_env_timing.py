"""Times whole episodes in one program on the device, and the same task in processes."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import common, model_cases
from sas_jax.data.spec import DataSpec
from sas_jax.envs.make import make
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.evaluation import watching
from sas_jax.experiment import ExperimentConfig
from sas_jax.jax_envs import loop, named
from sas_jax.learners import sequence
from sas_jax.types import Rows

# The same task twice: on the device, and in the simulator.
IN_JAX, SIMULATOR = "PlanePointGoal", "PointGoal1"


def _row(what: str, where: str, steps: int, runs: list[common.Sample], **more) -> dict:
    """Environment steps a second of wall and of CPU time, medians of the runs."""
    return {
        "case": f"{what}, {where}",
        "what": what,
        "where": where,
        "steps_per_second": steps / float(np.median([run.wall for run in runs])),
        "steps_per_cpu_second": steps / float(np.median([run.cpu for run in runs])),
        "seconds": common.spread([run.wall for run in runs]),
        **more,
    }


def _rows(episodes: int) -> Rows:
    """So many episodes at the threshold 20, their seeds from 0 on."""
    return Rows(
        cost_limit=jnp.full(episodes, 20.0),
        episode_seed=jnp.arange(episodes, dtype=jnp.uint32),
    )


def record_on_device(episodes: int, steps: int, repeats: int) -> dict:
    """Random actions, `episodes` side by side."""
    env = named.env_of(IN_JAX)
    keys = jax.vmap(jax.random.key)(np.arange(episodes, dtype=np.uint32))
    behaviour = loop.random_behaviour(env)
    begun = time.perf_counter()
    run = loop.record.lower(env, behaviour, keys, steps).compile()
    compiled = time.perf_counter() - begun
    case = common.timed(lambda: run(keys))
    runs = [case() for _ in range(repeats)]
    return _row(
        "random actions",
        "device",
        episodes * steps,
        runs,
        episodes=episodes,
        compile_seconds=compiled,
    )


def record_in_simulator(steps: int) -> dict:
    """Random actions in the simulator's fast path, one episode in this process."""
    env, rng = make(SIMULATOR), np.random.default_rng(0)
    env.reset(0)

    def walk():
        for number in range(steps):
            *_, terminated, truncated = env.step(rng.uniform(-1, 1, 2))
            if terminated or truncated:
                env.reset(number)

    return _row(
        "random actions", "simulator", steps, [common.timed(walk)()], episodes=1
    )


def act_on_device(
    config: ExperimentConfig,
    spec: DataSpec,
    variant: str,
    *,
    episodes: int,
    steps: int,
    repeats: int,
) -> dict:
    """A policy in whole episodes of `steps` steps, environment and all in one program.

    Episodes begin and plan in the same step, as they do in an evaluation.
    """
    env = named.env_of(IN_JAX)._replace(episode_steps=steps)
    policy = sequence.make_policy(config, spec, variants=(variant,))
    variables = model_cases.make_variables(config, spec)
    rows = _rows(episodes)
    key = jax.random.key(3)
    run = loop.make_evaluate(env, policy, num_variants=1, at_once=episodes)
    begun = time.perf_counter()
    run = run.lower(variables, rows, key).compile()
    compiled = time.perf_counter() - begun
    case = common.timed(lambda: run(variables, rows, key))
    runs = [case() for _ in range(repeats)]
    return _row(
        variant,
        "device",
        episodes * steps,
        runs,
        episodes=episodes,
        compile_seconds=compiled,
    )


def act_in_simulator(
    config: ExperimentConfig,
    spec: DataSpec,
    variant: str,
    *,
    episodes: int,
    steps: int,
    repeats: int,
) -> dict:
    """The same policy as evaluation runs it: simulators in a process, one step a call.

    CPU time is this process's: the simulators' own is not in it.
    """
    policy = sequence.make_policy(config, spec, variants=(variant,))
    variables = model_cases.make_variables(config, spec)
    rows = _rows(episodes)
    key = jax.random.key(3)
    begin, act = jax.jit(policy.begin), jax.jit(policy.act, donate_argnums=1)
    fresh = jax.jit(policy.initial_carry)
    with VectorEnv(SIMULATOR, episodes, num_workers=1) as envs:

        def play():
            batch = envs.reset(np.arange(episodes))
            now = watching.time_step(batch)
            carry = begin(variables, fresh(variables, rows, key), now, key)
            for _ in range(steps):
                action, carry = act(variables, carry, now, key)
                batch = envs.step(np.asarray(action))
                now = watching.time_step(batch)

        case = common.timed(play)
        case()  # compiles
        runs = [case() for _ in range(repeats)]
    return _row(variant, "simulator", episodes * steps, runs, episodes=episodes)
