"""Timings of `Policy.act` as evaluation calls it: jitted, its carry donated."""

import functools
import re
import statistics

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import common, flops, model_cases
from sas_jax.alignment import sequence_model
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig
from sas_jax.learners import sequence
from sas_jax.types import Rows, TimeStep, Trajectory


def carry_of(config, spec, variables, policy, rows, key, has_prompt):
    """A carry as `begin` leaves it, with a made-up prompt in every row if wanted."""
    carry = jax.jit(policy.initial_carry)(
        variables,
        Rows(
            cost_limit=jnp.full(rows, 20.0),
            episode_seed=jnp.arange(rows, dtype=jnp.uint32),
        ),
        key,
    )
    if not has_prompt:
        return carry
    model = sequence.make_sequence_model(config, spec)
    shape = (rows, config.sas.prompt_steps)
    segment = Trajectory(
        obs=jnp.ones((*shape, spec.obs_dim)),
        action=jnp.zeros((*shape, spec.action_dim)),
        reward=jnp.zeros(shape),
        cost=jnp.zeros(shape),
        return_to_go=jnp.full(shape, 20.0),
        cost_to_go=jnp.full(shape, 20.0),
        timestep=jnp.broadcast_to(jnp.arange(shape[1]), shape),
        is_valid=jnp.ones(shape, bool),
    )
    encode = jax.jit(jax.vmap(model.encode_prompt, in_axes=(None, 0, 0)))
    prompt = encode(variables, segment, jnp.ones(rows, bool))
    state = sequence_model.make_room(model, carry.state, config.sas.prompt_steps)
    return carry.replace(prompt=prompt, state=state)


def _act_case(config, spec, variables, *, rows, has_prompt, steps):
    """`steps` actions of `rows` rows, each fetched, and facts about the program."""
    policy = sequence.make_policy(config, spec, variants=("none",))
    key = jax.random.key(3)
    carry = carry_of(config, spec, variables, policy, rows, key, has_prompt)
    now = TimeStep(
        obs=model_cases.make_observations(spec, rows),
        reward=np.zeros(rows, np.float32),
        cost=np.zeros(rows, np.float32),
        is_first=np.zeros(rows, bool),
    )
    act = jax.jit(policy.act, donate_argnums=1)
    compiled = act.lower(variables, carry, now, key).compile()
    memory = compiled.memory_analysis()
    facts = {
        "xla_flops": common.xla_flops(compiled) / rows,
        "carry_bytes": sum(x.nbytes for x in jax.tree.leaves(carry) if _is_plain(x)),
        "temporary_bytes": memory.temp_size_in_bytes if memory else None,
        "ring_copies": _copies_of(compiled.as_text(), carry.state.ring.keys[0].shape),
    }
    held = [carry]

    def run():
        for _ in range(steps):
            action, held[0] = act(variables, held[0], now, key)
            np.asarray(action)

    return common.timed(run), facts


def _is_plain(x) -> bool:
    return not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _copies_of(hlo: str, shape: tuple[int, ...]) -> int:
    """Copies of arrays of this shape in the optimised program."""
    size = re.escape("[" + ",".join(map(str, shape)) + "]")
    return len(re.findall(rf"= \w+{size}\S* copy\(", hlo))


def measure(
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    sizes: list[int],
    steps: int,
    repeats: int,
    clock: str,
) -> list[dict]:
    """Rows of every batch size without and with a prompt."""
    variables = model_cases.make_variables(config, spec)
    case, work = common.peak_case()
    cases, facts, shapes = {"peak": case}, {}, {}
    for rows in sizes:
        for has_prompt in (False, True):
            name = f"B={rows}{', prompt' if has_prompt else ''}"
            shapes[name] = (rows, has_prompt)
            cases[name], facts[name] = _act_case(
                config, spec, variables, rows=rows, has_prompt=has_prompt, steps=steps
            )
    samples = common.interleave(cases, repeats, "acting")
    found = []
    count = functools.partial(flops.act_step, config, spec.obs_dim, spec.action_dim)
    for name, (rows, has_prompt) in shapes.items():
        runs = samples[name]
        parts = count(prompt_steps=config.sas.prompt_length if has_prompt else 0)
        total = sum(parts.values())
        share = common.ratio(samples["peak"], runs, clock) * total * rows * steps / work
        found.append(
            {
                "case": name,
                "rows": rows,
                "has_prompt": has_prompt,
                "milliseconds": common.spread(
                    [1e3 * getattr(run, clock) / steps for run in runs]
                ),
                "wall_milliseconds": 1e3
                * statistics.median(r.wall for r in runs)
                / steps,
                "flops": parts,
                "model_flops": total,
                "share_of_peak": share,
                **facts[name],
            }
        )
    return found
