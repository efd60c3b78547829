"""`cprtg` from its file to rows, and fitted by a sweep."""

import contextlib
import dataclasses

import numpy as np
import pytest

from sas_jax import risks
from sas_jax.asking.file import save_asking
from sas_jax.asking.fit import fit_asking
from sas_jax.asking.network import AskingConfig
from sas_jax.data import spec as spec_lib
from sas_jax.errors import UserError
from sas_jax.evaluation.evaluate import EvaluationConfig, evaluate
from sas_jax.evaluation.settings import settings_of
from sas_jax.sweeps import companions
from tests.evaluation.test_evaluate import FIRST_SEED, SIZES, make_checkpoint
from tests.helpers import short_goal
from tests.helpers.model_fixtures import make_episodes
from tests.helpers.sweep_cells import cells

SMALL = AskingConfig(hidden=(8,), num_steps=2, check_every=1, batch_size=8)


def dt_cell(*variants):
    methods = [{"algo": "dt"}]
    return cells(tasks=["PointGoal1"], methods=methods, variants=variants)[0]


@pytest.fixture(scope="module", autouse=True)
def short_task():
    with short_goal.registered() as name:
        yield name


@pytest.mark.slow
def test_from_a_file_to_rows(tmp_path):
    loaded = make_checkpoint()
    data = make_episodes((8,) * 12, **SIZES)
    fitted = fit_asking(data, loaded.spec, SMALL, held_out=0.5)
    path = tmp_path / "asking.npz"
    save_asking(path, *fitted)
    config = EvaluationConfig(
        variants=("none", "cprtg"),
        cost_limits=(5.0, 80.0),
        num_episodes=2,
        first_seed=FIRST_SEED,
        num_workers=1,
    )
    given = risks.companions(loaded.spec, asking=path)
    rows = evaluate(loaded, config, **given).results
    found = {(r.variant, r.cost_limit, r.episode_seed): r for r in rows}
    assert len(found) == len(rows) == 8
    seed = FIRST_SEED
    # Without costs to see, none does the same under both thresholds; cprtg asks for
    # another return.
    same, other = (
        [found[name, limit, seed].episode_return for limit in (5.0, 80.0)]
        for name in ("none", "cprtg")
    )
    assert same[0] == same[1] and other[0] != other[1]
    with pytest.raises(UserError, match="cprtg needs a model of the return to ask for"):
        evaluate(loaded, config)
    mine = settings_of(loaded, config, asking_file=path)
    assert mine["asking"] == risks.digest(path) and mine["critic"] is None
    assert "asking" not in settings_of(loaded, config)


class _Clock:
    """Laps of stages, as a sweep's clock keeps them."""

    def __init__(self):
        self.laps = []

    def lap(self, name, count):
        self.laps.append((name, count))
        return contextlib.nullcontext()


@pytest.mark.slow
def test_a_sweep_fits_it_once_and_only_to_the_data_of_its_checkpoint(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(companions, "AskingConfig", lambda: SMALL)
    (cell,) = cells(
        tasks=["PointGoal1"], methods=[{"algo": "dt"}], variants=["none", "cprtg"]
    )[:1]
    train = cell.config.train
    data = make_episodes((8,) * 30, **SIZES)
    training, _ = data.split(train.held_out, seed=train.seed)
    loaded = make_checkpoint()
    loaded = loaded._replace(spec=spec_lib.from_episodes(training))
    clock, told = _Clock(), []

    def fitted(episodes):
        return companions.fitted(
            cell,
            tmp_path,
            loaded,
            lambda: episodes,
            lambda *words: told.append(words),
            clock,
        )

    found = fitted(data)
    assert set(found) == {"asking"} and clock.laps == [("asking", 2)]
    assert told == [("asking", 1, 2), ("asking", 2, 2)]
    again = fitted(None)  # read from the cell's folder
    np.testing.assert_array_equal(
        again["asking"].params["Dense_0"]["kernel"],
        found["asking"].params["Dense_0"]["kernel"],
    )
    (tmp_path / "asking.npz").unlink()
    with pytest.raises(UserError, match="not those that its checkpoint was trained on"):
        fitted(make_episodes((9,) * 30, **SIZES))


def test_variants_are_added_to_a_cell_and_do_not_make_another():
    own, more = dt_cell("none"), dt_cell("none", "cprtg")
    assert own.id == more.id and (own.companions, more.companions) == ((), ("asking",))
    assert dataclasses.asdict(own.config) == dataclasses.asdict(more.config)
