"""Several runs of Algorithm 1 whose segments make one prompt."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment.algorithm1 import align
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.fragments import fragment_keys
from sas_jax.errors import UserError
from sas_jax.experiment import make_model
from sas_jax.learners import sequence
from sas_jax.policies import cached
from tests.helpers.line_policy import LENGTH, MODEL, state_at
from tests.helpers.model_fixtures import make_config, make_spec

VARIANTS = ("none", "rand", "u", "sas", "maxmax")
HORIZON, EPISODES, FRAGMENTS = 10, 24, 3


@functools.partial(jax.jit, static_argnames="fragments")
def align_many(keys, x, edge, fragments):
    config = SASConfig(
        num_first=2,
        num_second=2,
        prompt_length=LENGTH,
        horizon=HORIZON,
        fragments=fragments,
    )

    def one(key, x, edge):
        found = align(
            MODEL,
            {"edge": edge},
            key,
            state_at(x),
            jnp.array([0.5]),
            config=config,
            variants=VARIANTS,
            horizon=HORIZON,
        )
        return found.prompts, found.diagnostics, found.first.energies

    return jax.vmap(one)(keys, x, edge)


@pytest.fixture(scope="module")
def result():
    """All fragments at once, and one by one under each run's key."""
    keys = jax.random.split(jax.random.key(0), EPISODES)
    x = np.linspace(-1, 1, EPISODES, dtype=np.float32)
    # Some episodes lose single candidates, some whole runs, the last one everything.
    edge = np.full(EPISODES, np.inf, np.float32)
    edge[8:] = np.linspace(2.5, 1.1, EPISODES - 8)
    edge[-1] = -9.0
    joined = align_many(keys, x, edge, FRAGMENTS)
    apart = jax.vmap(lambda key: fragment_keys(key, FRAGMENTS))(keys)
    single = [align_many(apart[:, f], x, edge, 1) for f in range(FRAGMENTS)]
    assert (jax.random.key_data(apart[:, 0]) == jax.random.key_data(keys)).all()
    return jax.device_get((joined, single))


def test_the_prompt_is_every_runs_segment_in_order(result):
    """A run that found nothing repeats the first one that did."""
    (prompts, _, _), single = result
    assert prompts.segment.obs.shape[2] == FRAGMENTS * LENGTH
    kinds = set()
    for e, v in np.ndindex(EPISODES, len(VARIANTS)):
        found = [bool(s[0].is_present[e, v]) for s in single]
        assert prompts.is_present[e, v] == any(found)
        if VARIANTS[v] == "none" or not any(found):
            continue
        kinds.add(sum(found))
        for f in range(FRAGMENTS):
            source = single[f if found[f] else found.index(True)][0].segment
            part = slice(f * LENGTH, (f + 1) * LENGTH)
            np.testing.assert_allclose(
                prompts.segment.obs[e, v, part], source.obs[e, v], atol=1e-5
            )
            np.testing.assert_array_equal(
                prompts.segment.timestep[e, v, part], source.timestep[e, v]
            )
    assert kinds == {1, 2, 3}


def test_runs_draw_anew_and_the_first_is_the_only_one_of_a_single_fragment(result):
    (_, _, energies), single = result
    np.testing.assert_allclose(energies[:8], single[0][2][:8], atol=1e-5)
    noise = np.stack([s[2][:8].reshape(8, -1) for s in single])
    assert len(np.unique(noise[:, :, 1])) == noise[:, :, 1].size


def test_diagnostics_are_means_over_the_runs_that_found_one(result):
    (_, diagnostics, _), single = result
    for e, v in np.ndindex(EPISODES, len(VARIANTS)):
        runs = [jax.tree.map(lambda x: x[e, v], s[1]) for s in single]  # noqa: B023
        found = [r for r in runs if r.prompt_ok == 1]
        got = jax.tree.map(lambda x: x[e, v], diagnostics)  # noqa: B023
        if VARIANTS[v] == "none" or not found:
            assert np.isnan(got.level) and not got.prompt_ok == 1
            continue
        assert got.prompt_ok == 1 and got.prompt_start == found[0].prompt_start
        for name in ("level", "score", "mean_u", "mean_v", "invariant_share"):
            expected = np.mean([getattr(r, name) for r in found], axis=0)
            np.testing.assert_allclose(getattr(got, name), expected, atol=1e-5)


@pytest.mark.parametrize(
    "sas, message",
    [
        ({"fragments": 0}, "fragments must be >= 1"),
        ({"fragments": 3}, "6 steps leaves no room in a context of 5"),
        ({"fragments": 3, "prompt_place": "sliding"}, "sliding prompt of 6 steps"),
    ],
)
def test_prompts_that_do_not_fit_are_one_line(sas, message):
    with pytest.raises(UserError, match=message):
        sequence.make_policy(make_config(sas=sas), make_spec(), variants=("sas",))


def test_the_window_beside_a_prompt_of_all_fragments():
    config, spec = make_config(decoder={"context": 9}), make_spec()
    model = cached.make(make_model(config, spec), spec, prompt_length=3 * 2)
    assert model.prompt_window == 3
    beside = cached.make(
        make_model(config, spec), spec, prompt_length=3 * 4, prompt_place="beside"
    )
    assert beside.prompt_window == 9
