"""Algorithm 1 as a whole on given tables of energies, against plain Python."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sas_jax.alignment import lyapunov
from sas_jax.alignment.algorithm1 import align
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.loops import counted, loop_keys, run_loop
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


@pytest.mark.parametrize("window", [1, 3])
def test_peaks_of_independent_densities_favour_no_time(window):
    """Same law at every step: peaks lie anywhere alike (H = 1), or as often k steps
    from the first whole window as k steps from the last one (H = 3, undiscounted).
    """
    count, horizon = 4000, 12
    config = SASConfig(energy_window=window, discount=1.0, prompt_length=LENGTH)
    rng = np.random.default_rng(3)
    densities = rng.normal(size=(count, horizon)).astype(np.float32) * 4

    @jax.jit
    def times(densities):
        energies = jax.vmap(
            lambda row: lyapunov.energy(row, discount=1.0, window=window)
        )(densities)
        counts = counted(MODEL, config, horizon, jnp.int32(horizon))
        return lyapunov.peaks(energies, counts, None)[1]

    found = np.bincount(times(densities), minlength=horizon)
    whole = horizon - window + 1
    assert found[whole:].sum() == 0
    if window == 1:
        spread = ((found - count / horizon) ** 2 / (count / horizon)).sum()
        assert spread < stats.chi2.ppf(0.9999, horizon - 1)
    mirrored = found[:whole][::-1]
    apart = np.abs(found[:whole] - mirrored) / np.sqrt(found[:whole] + mirrored)
    assert apart.max() < 4


def test_a_first_density_of_another_kind_is_left_out():
    model = MODEL._replace(first_density_differs=True)
    config = SASConfig(energy_window=3, prompt_length=LENGTH)
    for steps, expected in ((8, range(1, 6)), (3, [1]), (1, [0])):
        counts = counted(model, config, 10, jnp.int32(steps))
        assert np.flatnonzero(counts).tolist() == list(expected)


@pytest.mark.slow
def test_a_single_density_of_zero_disqualifies_though_its_window_hides_it():
    def step(variables, keys, state, prompt):
        output, after = MODEL.step(variables, keys, state, prompt)
        hit = (state.timestep == 5) & (jnp.arange(keys.shape[0]) == 1)
        density = jnp.where(hit, -jnp.inf, output.log_density)
        return output.replace(log_density=density), after

    config = SASConfig(num_first=3, prompt_length=LENGTH, energy_window=3)
    keys = loop_keys(jax.random.key(0), config)[0]
    loop = run_loop(
        MODEL._replace(step=step),
        {"edge": jnp.float32(jnp.inf)},
        config,
        HORIZON,
        keys,
        state_at(0.0),
        None,
    )
    assert np.isfinite(loop.energies).all()
    assert loop.is_valid.tolist() == [True, False, True]
