"""Algorithm 1 on a sequence policy that is not ours (`line_policy`): `align` sees the
step functions of `SequenceModel` only.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment.algorithm1 import align, align_batch
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.tiles import Tiling
from sas_jax.alignment.variants import check_variants
from sas_jax.errors import UserError
from tests.alignment.test_lyapunov import transcribe_first, transcribe_second
from tests.helpers.line_policy import LENGTH, MODEL, state_at

HORIZON = 12
LIMITS = (0.0, 0.5, 20.0)
VARIANTS = ("none", "null", "rand", "u", "sas", "uv_sum", "maxmax", "short")
CONFIG = SASConfig(
    num_first=4, num_second=3, prompt_length=LENGTH, horizon=HORIZON, discount=0.9
)


def run_align(key, x, edge, *, config=CONFIG, variants=VARIANTS):
    return align(
        MODEL,
        {"edge": edge},
        key,
        state_at(x),
        jnp.asarray(LIMITS),
        config=config,
        variants=variants,
        horizon=HORIZON,
        max_cost=2.0,
    )


@functools.partial(jax.jit, static_argnames=("config", "variants"))
def align_many(seeds, x, edge, config=CONFIG, variants=VARIANTS):
    """One alignment per seed, vmapped; start `x [E]` and edge `[E]`."""

    def one(seed, x, edge):
        key = jax.random.key(seed)
        return run_align(key, x, edge, config=config, variants=variants)

    return jax.vmap(one)(seeds, x, edge)


EPISODES = 40
# Steps whose window of energies is whole.
WHOLE = HORIZON - CONFIG.energy_window + 1


@pytest.fixture(scope="module")
def result():
    """Forty episodes: some without an edge, some that lose candidates, the last four
    lose all of them at once.
    """
    edge = np.full(EPISODES, np.inf, np.float32)
    edge[20:36] = np.linspace(1.0, 3.0, 16)
    edge[36:] = -5.0
    x = np.linspace(-1.0, 0.9, EPISODES, dtype=np.float32)
    return jax.device_get(align_many(np.arange(EPISODES), x, edge))


def reference_energy(log_density, config=CONFIG):
    """`[T]` by its definition in float64."""
    density = np.exp(log_density.astype(np.float64))
    steps = len(density)
    return np.array(
        [
            -np.log(
                sum(
                    config.discount**k * density[t + k]
                    for k in range(config.energy_window)
                    if t + k < steps
                )
            )
            for t in range(steps)
        ]
    )


def bounds(peak):
    end = min(max(peak, LENGTH), HORIZON)
    return end - LENGTH, end


def test_energies_are_those_of_the_imagined_steps(result):
    for loop in (result.first, *result.second.values()):
        log_density = loop.outputs.log_density + loop.outputs.log_prob
        rows = log_density.reshape(-1, HORIZON)
        expected = np.stack([reference_energy(row) for row in rows])
        energies = loop.energies.reshape(-1, HORIZON)
        np.testing.assert_allclose(energies, expected, rtol=1e-5, atol=1e-5)


def test_second_loops_felt_the_first_prompt_and_made_room(result):
    assert set(result.second) == {"min", "max"}
    assert result.second["min"].energies.shape == (EPISODES, 3, HORIZON)
    for rule, variant in (("min", "sas"), ("max", "maxmax")):
        first, second = result.first_choices[variant], result.second[rule]
        for e in range(EPISODES):
            pull = 0.0
            if first.selection.is_valid[e]:
                row = result.first.outputs.obs[e, first.selection.index[e], :, 0]
                pull = row[first.start[e] : first.end[e]].mean()
            np.testing.assert_allclose(second.outputs.cost[e], pull, atol=1e-6)
    assert (result.second["min"].outputs.return_to_go == 1).all()  # has_room
    assert (result.first.outputs.return_to_go == 0).all()


@pytest.mark.parametrize("variant", ["u", "sas", "uv_sum", "maxmax"])
def test_choices_against_a_transcription_of_algorithm_1(result, variant):
    """Selections, segments, flags and diagnostics of every episode, in plain Python."""
    v = VARIANTS.index(variant)
    rule = "max" if variant == "maxmax" else "min"
    seen = set()
    for e in range(EPISODES):
        energies = result.first.energies[e]
        first = transcribe_first(energies, rule == "max", WHOLE)
        diagnostics = jax.tree.map(lambda x: x[e, v], result.diagnostics)  # noqa: B023
        prompt = jax.tree.map(lambda x: x[e, v], result.prompts)  # noqa: B023
        choice, outputs = first, result.first.outputs
        if first is not None and variant != "u":
            energies, outputs = (
                result.second[rule].energies[e],
                result.second[rule].outputs,
            )
            choice = transcribe_second(energies, first[1], variant == "uv_sum", WHOLE)
        seen.add(choice is not None)
        if choice is None:
            assert not prompt.is_present and diagnostics.prompt_ok == 0
            for name in ("level", "score", "mean_u", "mean_v", "prompt_start"):
                assert np.isnan(getattr(diagnostics, name)), name
            continue
        index, _, peak = choice[:3]
        start, end = bounds(peak)
        assert prompt.is_present and diagnostics.prompt_ok == 1
        assert diagnostics.prompt_start == start
        np.testing.assert_array_equal(
            prompt.segment.obs, outputs.obs[e, index, start:end]
        )
        np.testing.assert_array_equal(prompt.segment.timestep, np.arange(start, end))
        np.testing.assert_allclose(diagnostics.level, first[1], rtol=1e-6)
        g = diagnostics.level - energies[index][:WHOLE]
        np.testing.assert_allclose(diagnostics.mean_u, (g > 0).mean(), atol=1e-6)
        meets_v = g[:-1] - g[1:] >= 0
        np.testing.assert_allclose(diagnostics.mean_v, meets_v.mean(), atol=1e-6)
        # R = {G <= -log(d / (C_max D))} at d = 0, 0.5, 20 with C_max = 2, D = 1.
        shares = [1.0, (g <= math.log(4)).mean(), (g <= math.log(0.1)).mean()]
        np.testing.assert_allclose(diagnostics.invariant_share, shares, atol=1e-6)
    assert seen == {True, False}


def test_u_is_the_first_prompt_of_sas_and_variants_share_the_first_loop(result):
    ours, sas = result.first_choices["u"], result.first_choices["sas"]
    jax.tree.map(np.testing.assert_array_equal, ours, sas)
    assert set(result.second_choices) == {"sas", "uv_sum", "maxmax"}


def test_variants_without_a_prompt_have_none(result):
    for variant in ("none", "null", "short"):
        v = VARIANTS.index(variant)
        assert not result.prompts.is_present[:, v].any()
        np.testing.assert_array_equal(result.prompts.segment.obs[:, v], 0.0)
        for leaf in jax.tree.leaves(result.diagnostics):
            assert np.isnan(leaf[:, v]).all()


def test_random_prompts_are_slices_of_valid_trajectories(result):
    """And cover many trajectories and starts: it is not Algorithm 1 in hiding."""
    v = VARIANTS.index("rand")
    seen = set()
    for e in range(36):
        choice = jax.tree.map(lambda x: x[e], result.first_choices["rand"])  # noqa: B023
        finite = np.isfinite(result.first.energies[e]).all(-1)
        assert choice.selection.is_valid == finite.any()
        if not finite.any():
            continue
        assert finite[choice.selection.index]
        assert 0 <= choice.start and choice.end == choice.start + LENGTH <= HORIZON
        row = result.first.outputs.obs[e, choice.selection.index]
        expected = row[choice.start : choice.end]
        np.testing.assert_array_equal(result.prompts.segment.obs[e, v], expected)
        seen.add((int(choice.selection.index), int(choice.start)))
    assert {i for i, _ in seen} == set(range(4))
    assert len({s for _, s in seen}) >= 7  # of ten
    sas = VARIANTS.index("sas")
    same = result.prompts.segment.obs[:36, v] == result.prompts.segment.obs[:36, sas]
    assert same.all(axis=(1, 2)).mean() < 0.2


def test_sas_and_maxmax_choose_differently(result):
    level = result.diagnostics.level
    sas, maxmax = (VARIANTS.index(v) for v in ("sas", "maxmax"))
    assert (level[:20, maxmax] > level[:20, sas]).all()
    prompts = result.prompts.segment.obs
    assert (prompts[:20, sas] != prompts[:20, maxmax]).any(axis=(1, 2)).mean() > 0.8


def test_episodes_without_a_valid_candidate_get_the_empty_prompt(result):
    """The last four are NaN from the first step; nothing of that leaves `align`."""
    with_prompt = [VARIANTS.index(v) for v in ("rand", "u", "sas", "uv_sum", "maxmax")]
    assert np.isnan(result.first.energies[36:]).any(-1).all()
    assert (result.diagnostics.prompt_ok[36:, with_prompt] == 0).all()
    assert not result.prompts.is_present[36:].any()
    for leaf in jax.tree.leaves(result.prompts):
        assert np.isfinite(leaf).all()
    assert (result.diagnostics.prompt_ok[:20, with_prompt] == 1).all()


def test_imaginations_differ(result):
    """In both loops, and the second draws anew. That more candidates leave the first
    as they are is tested with `imagine`.
    """
    noise = [result.first, result.second["min"]]
    noise = np.concatenate([loop.outputs.log_prob[:20, :, 0] for loop in noise], 1)
    assert noise.shape == (20, 4 + 3)
    assert len(np.unique(noise)) == noise.size
    # Rules share the second loop's draws: they differ by their prompts alone.
    np.testing.assert_array_equal(
        result.second["max"].outputs.log_prob[:20, :, 0], noise[:, 4:]
    )


@pytest.mark.slow
def test_an_episode_does_not_depend_on_its_companions(result):
    """Alone, and with all variants asked for or one: the same prompt bit for bit."""
    x = np.linspace(-1.0, 0.9, EPISODES, dtype=np.float32)
    alone = align_many(np.arange(7, 8), x[7:8], np.full(1, np.inf), variants=("sas",))
    v = VARIANTS.index("sas")
    expected = jax.tree.map(lambda y: y[7, v], result.prompts)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[0, 0], b), alone.prompts, expected
    )


@pytest.mark.slow
def test_jit_equals_no_jit():
    """The first loop, its choice and its prompt; op by op, the second takes long."""
    config = SASConfig(num_first=2, prompt_length=LENGTH, horizon=HORIZON)
    settings = {"config": config, "variants": ("u",)}
    arguments = (np.uint32(3), np.float32(0.5), np.float32(np.inf))
    jitted = align_many(*(np.array([a]) for a in arguments), **settings)
    seed, x, edge = arguments
    plain = run_align(jax.random.key(seed), x, edge, **settings)
    for got, expected in zip(
        jax.tree.leaves(plain), jax.tree.leaves(jitted), strict=True
    ):
        np.testing.assert_allclose(got, expected[0], rtol=2e-6, atol=2e-6)


def test_variants_without_prompts_need_no_memory():
    out = jax.eval_shape(
        functools.partial(run_align, variants=("none", "short")),
        jax.random.key(0),
        np.float32(0),
        np.float32(0),
    )
    assert out.prompts is None
    assert out.diagnostics.level.shape == (2,)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"num_first": 0}, "num_first"),
        ({"prompt_length": 0}, "prompt_length"),
        ({"discount": 0.0}, "discount"),
        ({"discount": 1.5}, "discount"),
        ({"concentrability": 0.0}, "concentrability"),
        ({"horizon": 4}, "horizon"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(UserError, match=message):
        SASConfig(**wrong)


def test_a_horizon_shorter_than_the_prompt_is_an_error():
    with pytest.raises(UserError, match="shorter than the prompt"):
        align(
            MODEL,
            {},
            jax.random.key(0),
            state_at(0.0),
            jnp.asarray(LIMITS),
            config=CONFIG,
            variants=("sas",),
            horizon=2,
        )


@pytest.mark.parametrize(
    "variants, message",
    [
        (("none", "maxmx"), "did you mean 'maxmax'"),
        ((), "at least one"),
        (("sas", "sas"), "twice"),
    ],
)
def test_variants_are_checked(variants, message):
    with pytest.raises(UserError, match=message):
        check_variants(variants)


@pytest.mark.slow
def test_a_batch_in_tiles_is_every_episode_by_itself(result):
    """Every variant, loop and choice; tiles of 3 for 7 x 4 and 2 x 7 x 3 rows."""
    count, x = 7, np.linspace(-1.0, 0.9, EPISODES, dtype=np.float32)[:7]
    state = jax.tree.map(
        lambda leaf: jnp.repeat(leaf, count, axis=0) if leaf.ndim else leaf,
        state_at(0.0),
    ).replace(x=jnp.asarray(x))

    @jax.jit
    def run(state, limits):
        return align_batch(
            MODEL,
            {"edge": jnp.float32(np.inf)},
            jax.vmap(jax.random.key)(jnp.arange(count)),
            state,
            limits,
            config=CONFIG,
            variants=VARIANTS,
            horizon=HORIZON,
            max_cost=2.0,
            tiling=Tiling(3),
        )

    found = run(state, np.tile(np.float32(LIMITS), (count, 1)))
    expected = jax.tree.map(lambda leaf: leaf[:count], result)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6),
        found,
        expected,
    )
