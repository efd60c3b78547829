"""Algorithm 1 as a whole on given tables of energies, against plain Python."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment.algorithm1 import align
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.loops import loop_keys
from sas_jax.types import StepOutput
from tests.alignment.test_align import HORIZON, bounds
from tests.alignment.test_lyapunov import transcribe_first, transcribe_second
from tests.helpers.line_policy import LENGTH, MODEL, state_at


def table_step(variables, keys, state, prompt):
    """Candidates read their energies from a table: its first one without a prompt.

    A candidate is known by its key; its observation names loop, candidate and time.
    """
    loop = 0 if prompt is None else 1
    mine = jax.random.key_data(keys)[:, None] == variables["keys"][loop][None]
    index = jnp.argmax(mine.all(axis=-1), axis=1)
    t = state.timestep
    energies = variables["tables"][loop][index, t]
    zeros = jnp.zeros_like(energies)
    obs = jnp.stack([jnp.full_like(zeros, loop), index, t], axis=1)
    output = StepOutput(
        obs=obs.astype(jnp.float32),
        action=zeros[:, None],
        reward=zeros,
        cost=zeros,
        return_to_go=zeros,
        cost_to_go=zeros,
        timestep=t,
        log_density=-energies,
        log_prob=zeros,
    )
    return output, state.replace(timestep=t + 1)


def test_algorithm_1_on_a_thousand_random_tables():
    """All of it, lines 1 to 14, against the transcription: whole energies, so that ties
    abound; every third table has rows that are not finite, some nothing else.
    """
    rng = np.random.default_rng(1)
    tables = rng.integers(-3, 4, (1000, 2, 4, HORIZON)).astype(np.float32)
    for e in range(0, 1000, 3):
        bad = rng.random((2, 4)) < (1.0 if e % 30 == 0 else 0.4)
        for loop, row in np.argwhere(bad):
            value = rng.choice([np.nan, np.inf, -np.inf])
            tables[e, loop, row, rng.integers(HORIZON)] = value
    variants = ("u", "sas", "uv_sum", "maxmax")
    config = SASConfig(
        num_first=4,
        num_second=4,
        prompt_length=LENGTH,
        horizon=HORIZON,
        energy_window=1,
        discount=1.0,
    )
    model = MODEL._replace(step=table_step)

    @jax.jit
    @jax.vmap
    def run(tables):
        key = jax.random.key(0)
        keys = [jax.random.key_data(k) for k in loop_keys(key, config)[:2]]
        found = align(
            model,
            {"tables": tables, "keys": jnp.stack(keys)},
            key,
            state_at(0.0),
            jnp.ones(1),
            config=config,
            variants=variants,
            horizon=HORIZON,
        )
        return found.prompts.segment.obs, found.prompts.is_present, found.diagnostics

    steps, is_present, diagnostics = jax.device_get(run(tables))
    outcomes = set()
    for e, (v, variant) in itertools.product(range(1000), enumerate(variants)):
        choice = first = transcribe_first(tables[e, 0], highest=variant == "maxmax")
        if first is not None and variant != "u":
            choice = transcribe_second(
                tables[e, 1], first[1], count_u=variant == "uv_sum"
            )
        outcomes.add((first is None, choice is None))
        assert is_present[e, v] == (choice is not None)
        if choice is None:
            assert (steps[e, v] == 0).all() and np.isnan(diagnostics.level[e, v])
            continue
        start, end = bounds(choice[2])
        expected = [[variant != "u", choice[0], t] for t in range(start, end)]
        np.testing.assert_array_equal(steps[e, v], expected)
        assert diagnostics.level[e, v] == first[1]
    assert outcomes == {(False, False), (False, True), (True, True)}
