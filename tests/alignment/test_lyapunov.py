"""Energies in closed form, and Algorithm 1's selections against plain numpy."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import lyapunov

energy = jax.jit(lyapunov.energy, static_argnames="window")
select_first = jax.jit(lyapunov.select_first, static_argnames="rule")
select_second = jax.jit(lyapunov.select_second, static_argnames="count_u")


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("window", [1, 3, 10])
def test_energy_against_the_definition(window, discount):
    """E_t = -log sum_{k < H, t + k < T} gamma^k rho_{t+k}; T = 7 is shorter than 10."""
    rng = np.random.default_rng(0)
    log_density = rng.normal(size=7) * 3
    expected = [
        -math.log(
            sum(
                discount**k * math.exp(log_density[t + k])
                for k in range(window)
                if t + k < 7
            )
        )
        for t in range(7)
    ]
    found = energy(log_density.astype(np.float32), discount=discount, window=window)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_energy_of_a_constant_density_is_a_geometric_sum():
    """l = -c everywhere: E = c - log((1 - g^H) / (1 - g)) until the window is cut."""
    found = energy(jnp.full(12, -5.0), discount=0.5, window=3)
    np.testing.assert_allclose(found[:10], 5 - math.log(1.75), rtol=1e-6)
    np.testing.assert_allclose(found[10:], [5 - math.log(1.5), 5.0], rtol=1e-6)


def test_energy_does_not_overflow_far_from_the_data():
    found = energy(jnp.array([-5000.0, -1e30, 3000.0]), discount=0.99, window=1)
    np.testing.assert_allclose(found, [5000.0, 1e30, -3000.0], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
def test_a_density_that_is_not_finite_shows_in_the_energy(bad):
    """One that is zero for good; a single zero inside a window is averaged away."""
    found = energy(np.array([0.0, bad, bad, bad], np.float32), discount=0.9, window=3)
    assert not np.isfinite(found).all()


def test_conditions_on_literals():
    """E = 3, 1, 1, 4 at level 3; G = 0 fails U, an equal G keeps V."""
    g = lyapunov.lyapunov_value(jnp.array([3.0, 1.0, 1.0, 4.0]), jnp.float32(3))
    np.testing.assert_array_equal(g, [0, 2, 2, -1])
    np.testing.assert_array_equal(lyapunov.condition_u(g), [False, True, True, False])
    np.testing.assert_array_equal(lyapunov.condition_v(g), [False, True, True])


@pytest.mark.parametrize("cost_limit", [5.0, np.float32(5.0), jnp.float32(5.0)])
def test_invariant_set_on_literals(cost_limit):
    """d = 5, C_max = 2, D = 10: the bound is -log(5 / 20) = log 4 = 1.386."""
    g = jnp.array([-3.0, 1.386, 1.387, 9.0])
    inside = lyapunov.in_invariant_set(
        g, cost_limit=cost_limit, max_cost=2.0, concentrability=10.0
    )
    np.testing.assert_array_equal(inside, [True, True, False, False])


@pytest.mark.parametrize("zero", [0, 0.0, jnp.float32(0)])
def test_a_threshold_of_zero_bounds_nothing(zero):
    inside = lyapunov.in_invariant_set(
        jnp.array([-1.0, 1e30, jnp.nan]),
        cost_limit=zero,
        max_cost=1.0,
        concentrability=1.0,
    )
    np.testing.assert_array_equal(inside, [True, True, False])


# Algorithm 1, lines 3-6 and 11-14, transcribed with loops.


def transcribe_first(energies, highest=False, steps=None):
    """steps: only so many, from the first one, are compared."""
    best = None
    for i, row in enumerate(energies):
        if not all(math.isfinite(e) for e in row):
            continue
        row = row[:steps]
        peak = max(row)
        better = best is None or (peak > best[1] if highest else peak < best[1])
        if better:
            best = (i, peak, list(row).index(peak))
    return best


def transcribe_second(energies, level, count_u=False, steps=None):
    best = None
    for k, row in enumerate(energies):
        if not all(math.isfinite(e) for e in row):
            continue
        row = row[:steps]
        g = [level - e for e in row]
        score = sum(g[t] - g[t + 1] >= 0 for t in range(len(g) - 1))
        if count_u:
            score += sum(x > 0 for x in g)
        peak = max(row)
        if best is None or (-score, peak) < (-best[3], best[1]):
            best = (k, peak, list(row).index(peak), score)
    return best


@pytest.fixture(scope="module")
def tables():
    """1000 tables `[5, 9]` of whole numbers, so that ties abound; every third has rows
    that are not finite, and some have nothing else.
    """
    rng = np.random.default_rng(0)
    tables = rng.integers(-3, 4, (1000, 5, 9)).astype(np.float32)
    for index in range(0, 1000, 3):
        for row in range(5):
            if rng.random() < (1.0 if index % 30 == 0 else 0.3):
                bad = rng.choice([np.nan, np.inf, -np.inf])
                tables[index, row, rng.integers(9)] = bad
    levels = rng.integers(-2, 4, 1000).astype(np.float32)
    return tables, levels


def assert_same(found, expected):
    """found: stacked `Selection`; expected: (index, level, peak, score) or None."""
    found = jax.tree.map(np.asarray, found)
    empty = [i for i, e in enumerate(expected) if e is None]
    np.testing.assert_array_equal(np.flatnonzero(~found.is_valid), empty)
    filled = [e or (0, 0, 0, 0) for e in expected]
    for name, column in (("index", 0), ("level", 1), ("peak", 2), ("score", 3)):
        np.testing.assert_array_equal(
            getattr(found, name), [e[column] for e in filled], err_msg=name
        )


@pytest.mark.parametrize("rule", ["min", "max"])
def test_first_selection_on_random_tables(tables, rule):
    energies, _ = tables
    found = jax.jit(jax.vmap(lambda e: lyapunov.select_first(e, rule=rule)))(energies)
    expected = [transcribe_first(e, highest=rule == "max") for e in energies]
    assert any(e is None for e in expected)
    assert_same(found, [e and (*e, e[1]) for e in expected])


@pytest.mark.parametrize("count_u", [False, True])
def test_second_selection_on_random_tables(tables, count_u):
    energies, levels = tables
    select = functools.partial(lyapunov.select_second, count_u=count_u)
    found = jax.jit(jax.vmap(select))(energies, levels)
    expected = [
        transcribe_second(rows, level, count_u=count_u)
        for rows, level in zip(energies, levels, strict=True)
    ]
    assert any(e is None for e in expected)
    assert_same(found, expected)


def test_ties_go_to_the_lower_peak_and_then_to_the_first():
    """Scores 1, 1, 1, 0; peaks 5, 4, 4, 0."""
    energies = np.array([[5, 4, 5], [4, 1, 3], [2, 1, 4], [0, -1, -2]], np.float32)
    found = select_second(energies, np.float32(9))
    assert (int(found.index), int(found.score), int(found.peak)) == (1, 1, 0)
    assert int(select_first(energies).index) == 3
    assert int(select_first(energies[1:3]).index) == 0


@pytest.mark.parametrize(
    "peak, bounds",
    [
        (0, (0, 5)),
        (4, (0, 5)),
        (5, (0, 5)),
        (6, (1, 6)),
        (49, (44, 49)),
        (50, (45, 50)),
    ],
)
def test_segments_always_hold_their_length(peak, bounds):
    found = lyapunov.segment_bounds(jnp.int32(peak), length=5, horizon=50)
    assert tuple(map(int, found)) == bounds


def test_a_segment_as_long_as_the_horizon():
    found = lyapunov.segment_bounds(jnp.int32(2), length=5, horizon=5)
    assert tuple(map(int, found)) == (0, 5)


def test_wrong_arguments_raise():
    with pytest.raises(ValueError, match="length"):
        lyapunov.segment_bounds(jnp.int32(2), length=6, horizon=5)
    with pytest.raises(ValueError, match="window"):
        lyapunov.energy(jnp.zeros(3), discount=0.9, window=0)
    with pytest.raises(ValueError, match="rule"):
        lyapunov.select_first(jnp.zeros((2, 3)), rule="best")
    with pytest.raises(AssertionError):
        lyapunov.select_first(jnp.zeros(3))
    with pytest.raises(AssertionError):
        lyapunov.energy(jnp.zeros((2, 3)), discount=0.9, window=1)


EVERYWHERE = {
    "with_jit": True,
    "without_jit": True,
    "with_device": True,
    "without_device": True,
}


class TestEverywhere(chex.TestCase):
    """The scorer's functions on literals: with jit and without, device and host."""

    @chex.variants(**EVERYWHERE)
    def test_energy_and_conditions(self):
        energy = self.variant(
            functools.partial(lyapunov.energy, discount=1.0, window=2)
        )
        found = energy(np.log(np.float32([0.2, 0.3, 0.5])))
        np.testing.assert_allclose(found, -np.log([0.5, 0.8, 0.5]), rtol=1e-6)
        g = self.variant(lyapunov.lyapunov_value)(
            np.float32([3, 1, 1, 4]), np.float32(3)
        )
        np.testing.assert_array_equal(g, [0, 2, 2, -1])
        holds = self.variant(lyapunov.condition_u)(g)
        np.testing.assert_array_equal(holds, [False, True, True, False])
        falls = self.variant(lyapunov.condition_v)(g)
        np.testing.assert_array_equal(falls, [False, True, True])
        inside = self.variant(
            lambda g, d: lyapunov.in_invariant_set(
                g, cost_limit=d, max_cost=1.0, concentrability=1.0
            )
        )(g, np.float32(math.exp(-1)))
        np.testing.assert_array_equal(inside, [True, False, False, True])
        share = self.variant(lyapunov.share)(
            holds, np.array([True, True, False, False])
        )
        assert float(share) == 0.5

    @chex.variants(**EVERYWHERE)
    def test_choices(self):
        nan = np.nan
        energies = np.float32([[1, 5, 2], [4, 3, 0], [nan, 0, 0], [2, 2, 2]])
        first = self.variant(functools.partial(lyapunov.select_first, rule="min"))
        found = [np.asarray(x).item() for x in first(energies)]
        assert found == [3, 0, 2.0, 2.0, True]
        second = self.variant(functools.partial(lyapunov.select_second, count_u=True))
        # V: 1, 0, -, 2 (energies that fall or stay). U at level 3: 2, 1, -, 3.
        found = [np.asarray(x).item() for x in second(energies, np.float32(3))]
        assert found == [3, 0, 2.0, 5.0, True]
        none = first(np.full((2, 3), nan, np.float32))
        assert [np.asarray(x).item() for x in none] == [0, 0, 0.0, 0.0, False]
        bounds = self.variant(
            functools.partial(lyapunov.segment_bounds, length=2, horizon=5)
        )
        assert [int(x) for x in bounds(np.int32(4))] == [2, 4]
