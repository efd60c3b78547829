"""Proposition 4.2 and the measured share, against numbers worked out by hand."""

import csv
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment.algorithm1 import align
from sas_jax.alignment.config import SASConfig
from sas_jax.report import bound_report
from sas_jax.stats.resample import mean_of
from sas_jax.studies import bound
from sas_jax.studies.probe import Probe
from tests.helpers import line_policy

CONSTANTS = bound.Constants(
    shift=-1.0,
    mean_energy=2.0,
    c1=1.0,
    lipschitz=1.5,
    kappa=0.5,
    horizon=3,
    uppers={"paper": 4.0},
)


def test_the_two_terms_by_hand():
    first, second = bound.terms(CONSTANTS, 4.0, 2, 5)
    assert first == pytest.approx(0.5**6)
    # 2 M kappa^2 (c2 - c1)^2 / (T L^2) = 2 * 5 * 0.25 * 9 / (3 * 2.25)
    assert second == pytest.approx(math.exp(-10 / 3))
    more = bound.terms(CONSTANTS, 4.0, 4, 10)
    assert more[0] == pytest.approx(first**2) and more[1] == pytest.approx(second**2)


def test_terms_at_the_edges():
    assert bound.terms(CONSTANTS, 1.5, 100, 1)[0] == 1.0  # Markov's says nothing
    assert all(map(math.isnan, bound.terms(CONSTANTS, 1.0, 1, 1)))  # no set
    still = CONSTANTS._replace(lipschitz=0.0)
    assert bound.terms(still, 4.0, 1, 1)[1] == 0.0


def random_pools(rng, layouts=6, size=5):
    """Pools `[E, 1, P]` with ties of scores and disqualified imaginations."""
    shape = (layouts, 1, size)
    peak = rng.normal(size=shape).round(1)
    peak[rng.uniform(size=shape) < 0.2] = np.nan
    return {"peak": peak, "score": rng.integers(0, 3, shape), "low": peak - 1.0}


@pytest.mark.parametrize("num_second", [1, 2, 3, 5])
def test_share_over_all_sets_equals_their_enumeration(num_second):
    rng = np.random.default_rng(0)
    pools = random_pools(rng)
    holds = rng.uniform(size=pools["peak"].shape) < 0.5
    found = bound.chosen_shares(pools, holds, num_second)
    for layout in range(len(found)):
        peak, score = pools["peak"][layout, 0], pools["score"][layout, 0]

        def better(k, peak=peak, score=score):
            lost = not np.isfinite(peak[k])
            return (lost, -score[k], math.inf if lost else peak[k], k)

        sets = list(itertools.combinations(range(5), num_second))
        shares = [holds[layout, 0, min(members, key=better)] for members in sets]
        np.testing.assert_allclose(found[layout, 0], np.mean(shares))


def test_leaving_by_each_end_and_by_disqualification():
    nan = np.nan
    pools = {
        "peak": np.array([[[1.0, 5.0, 2.0, nan]], [[1.0, 1.0, 1.0, 1.0]]]),
        "low": np.array([[[0.5, 1.0, -2.0, nan]], [[0.5, 0.5, 0.5, 0.5]]]),
        "level": np.array([[3.0], [nan]]),  # the second layout has no prompt
    }
    found = bound.leaving(pools, 0.0, 4.0)
    expected = [[[False, True, True, True]], [[True] * 4]]
    np.testing.assert_array_equal(found["leaves"], expected)
    np.testing.assert_array_equal(found["above"][0, 0], [False, True, False, False])
    np.testing.assert_array_equal(found["below"][0, 0], [False, False, True, False])


def test_constants_shift_energies_to_be_non_negative():
    energies = np.array([[-3.0, 1.0, 2.0], [0.0, 4.0, np.nan]])
    pools = {"step": np.array([2.5, 9.0]), "level": np.array([[5.0, 3.0], [8.0, 1.0]])}
    found = bound.constants_of(pools, energies, horizon=3, kappa=1.0)
    assert found.shift == -3.0 and found.c1 == 0.0
    assert found.mean_energy == pytest.approx(0.8 + 3.0)
    assert found.lipschitz == 9.0
    assert found.uppers["paper"] == 8.0 + 3.0
    assert found.uppers["median"] == 6.5 + 3.0
    assert found.uppers["data"] == pytest.approx(np.quantile([2.0, 4.0], 0.95) + 3.0)
    pools["step"][:] = 0.0
    found = bound.constants_of(pools, energies, horizon=3, kappa=1.0)
    assert found.lipschitz == 4.0  # the largest step of the data


def line_probe(**settings):
    return Probe(
        model=line_policy.MODEL,
        variables={"edge": jnp.float32(jnp.inf)},
        config=SASConfig(prompt_length=line_policy.LENGTH, **settings),
        horizon=12,
        target_return=1.0,
        cost_limit=20.0,
        key=jax.random.key(3),
        task=None,
        loaded=None,
        seed=3,
        train_seed=0,
    )


def algorithm_1(probe, seed, obs, variants=("sas",)):
    """The alignment of an episode as acting makes it."""
    key, state = probe.start(probe.variables, seed, obs)
    return align(
        probe.model,
        probe.variables,
        key,
        state,
        jnp.ones(1),
        config=probe.config,
        variants=variants,
        horizon=probe.horizon,
    )


SEEDS, OBS = np.array([5, 9]), np.array([[0.3], [-1.0]], np.float32)


@pytest.fixture(scope="module")
def measured():
    """Pools of the line policy, and of one whose every state is not a number."""
    probe = line_probe(num_first=4, num_second=6)
    pools, runs = bound.make_pools(probe, (2, 4, 7), 6), []
    for edge in np.float32([np.inf, -np.inf]):
        probe.variables["edge"] = edge
        runs.append(pools(SEEDS, OBS))
    return runs


@pytest.mark.slow
def test_pools_are_those_of_algorithm_1(measured):
    """With N of the grid and M of the whole pool, for two layouts."""
    probe, pools = line_probe(num_first=4, num_second=6), measured[0]
    assert pools["peak"].shape == (2, 3, 6)
    aligned = jax.jit(jax.vmap(lambda seed, obs: algorithm_1(probe, seed, obs)))
    runs = aligned(np.uint32(SEEDS), OBS)
    for row in range(2):
        found = jax.tree.map(lambda x, i=row: x[i], runs)
        energies = found.second["min"].energies[:, probe.compared]
        level = found.first_choices["sas"].selection.level
        np.testing.assert_allclose(pools["level"][row, 1], level, rtol=1e-5)
        np.testing.assert_allclose(
            pools["peak"][row, 1], energies.max(axis=1), rtol=1e-5
        )
        chosen = found.second_choices["sas"].selection
        assert pools["score"][row, 1, chosen.index] == chosen.score
        assert pools["score"][row, 1].max() == chosen.score
        # E-hat can but fall with N.
        assert (np.diff(pools["level"][row]) <= 1e-5).all()
        steps = np.abs(np.diff(energies, axis=1)).max()
        assert pools["step"][row] >= steps - 1e-5


def test_a_loop_under_the_same_prompt_runs_once():
    """Layout 7 stands there twice, as a filled-up part has it."""
    seeds = np.array([7, 8, 7])
    index = np.array([[4, 4, 2], [4, 1, 1], [4, 4, 2]])
    found = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 1]], bool)
    rows, groups, place = bound.distinct(seeds, index, found)
    assert len(rows) == 4  # (7, 4), (7, 2), (8, 4) and layout 8 without a prompt
    which = np.where(found, index, -1)
    for row, group in np.ndindex(index.shape):
        k = place[row, group]
        assert seeds[rows[k]] == seeds[row]
        assert which[rows[k], groups[k]] == which[row, group]


def test_a_layout_without_candidates_has_no_level(measured):
    pools = measured[1]
    assert np.isnan(pools["level"]).all()
    assert bound.leaving(pools, -9.0, 9.0)["leaves"].all()


def test_report_states_rows_constants_and_command(tmp_path):
    rows = [
        bound_report.BoundRow(
            upper="paper",
            num_first=n,
            num_second=m,
            leaves=mean_of(np.array([0.0, 1.0, 1.0, 0.0])),
            above=0.5,
            below=0.0,
            markov=0.7,
            hoeffding=0.6,
        )
        for n in (1, 5)
        for m in (1, 3, 10)
    ]
    path = bound_report.write_csv(tmp_path / "b.csv", rows, command="python -m me")
    lines = path.read_text().splitlines()
    assert lines[0] == "# python -m me"
    read = list(csv.DictReader(lines[1:]))
    assert len(read) == 6 and float(read[0]["bound"]) == 1.0  # capped
    assert float(read[0]["measured"]) == 0.5 and read[0]["layouts"] == "4"
    text = bound_report.table(rows, {"kappa": "1, undefined"}, title="T").text()
    assert "kappa: 1, undefined" in text and "0.500 [" in text
    picture = bound_report.figure(tmp_path / "b.png", rows, uppers={"paper": 4.0})
    assert picture.read_bytes().startswith(b"\x89PNG")
