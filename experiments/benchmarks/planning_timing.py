"""Times control steps of robots that act on imagined plans and of those without."""

import dataclasses
import time

import jax
import numpy as np

from experiments.benchmarks import acting_timing, common, model_cases
from sas_jax.learners import sequence
from sas_jax.types import TimeStep


def make_round(config, spec, variables, *, rows: int, variant: str, steps: int):
    """() -> wall seconds `[steps]` of actions of `rows` rows; compiled in the first.

    The steps of a round's first plan are made and not timed.
    """
    policy = sequence.make_policy(config, spec, variants=(variant,))
    key = jax.random.key(3)
    zeros = np.zeros(rows, np.float32)
    now = TimeStep(model_cases.make_observations(spec, rows), zeros, zeros, zeros > 0)
    act = jax.jit(policy.act, donate_argnums=1)
    every = config.sas.plan.execute

    def run() -> np.ndarray:
        carry = acting_timing.carry_of(
            config, spec, variables, policy, rows, key, False
        )
        seconds = []
        for t in range(steps + every):
            started = time.perf_counter()
            action, carry = act(variables, carry, now, key)
            np.asarray(action)
            if t >= every:
                seconds.append(time.perf_counter() - started)
        return np.array(seconds)

    return run


def cases_of(config, variant: str = "plan"):
    """Name -> (variant, settings, candidates of a plan): no plans, plans of which the
    references alone are imagined, and plans of which all candidates are.

    variant: the one that plans, "plan" or one with more than that, as "plan_recall".

    Which of the two a plan is depends on costs, and so on the model; these are the two
    ends, whatever a model that was never trained says.
    """

    def with_tolerance(value):
        plan = dataclasses.replace(config.sas.plan, tolerance=value)
        sas = dataclasses.replace(config.sas, plan=plan)
        return dataclasses.replace(config, sas=sas)

    plan = config.sas.plan
    return {
        "none": ("none", config, 0),
        "policy may act": (variant, with_tolerance(1e9), plan.num_reference),
        "plan": (variant, with_tolerance(None), plan.num_candidates),
    }


def measure(
    config,
    spec,
    *,
    sizes: list[int],
    plans: int,
    repeats: int,
    planner: str = "plan",
    skip: tuple = (),
) -> list[dict]:
    """Rows of every number of robots, without and with plans.

    planner: the variant that plans. skip: names of `cases_of` that are left out.
    """
    variables = model_cases.make_variables(config, spec)
    plan, found = config.sas.plan, []
    steps = plans * plan.execute
    for rows in sizes:
        for name, (variant, settings, candidates) in cases_of(config, planner).items():
            if name in skip:
                continue
            run = make_round(
                settings, spec, variables, rows=rows, variant=variant, steps=steps
            )
            runs = [run() for _ in range(repeats)]
            means = [run.mean() for run in runs]
            slowest = [run.reshape(plans, -1).max(axis=1).mean() for run in runs]
            found.append(
                {
                    "case": f"{name}, {rows} robots",
                    "rows": rows,
                    "variant": variant,
                    "trajectory_steps": candidates * plan.horizon / plan.execute,
                    "milliseconds": common.spread([1e3 * x for x in means]),
                    "slowest_milliseconds": common.spread([1e3 * x for x in slowest]),
                }
            )
    return found
