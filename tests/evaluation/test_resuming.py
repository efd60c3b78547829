"""An evaluation that goes on from the rows that are there, with a policy of BC's."""

import dataclasses

import jax
import numpy as np
import pytest

from sas_jax import learners
from sas_jax.checkpoint import Checkpoint
from sas_jax.data import spec as spec_lib
from sas_jax.evaluation.config import EvaluationConfig
from sas_jax.evaluation.evaluate import evaluate
from sas_jax.evaluation.work import work_of
from tests.helpers.model_fixtures import make_episodes
from tests.learners.test_bc import small_task

LIMITS = (1.0, 6.0)
CONFIG = EvaluationConfig(variants=("none",), cost_limits=LIMITS, num_episodes=10)


class Stopped(Exception):
    pass


def make_checkpoint(algo):
    config = learners.default_config("PointGoal1", algo)
    limits = LIMITS if algo == "bc_safe" else ()
    train = dataclasses.replace(config.train, cost_limits=limits)
    config = dataclasses.replace(config, train=train)
    spec = spec_lib.from_episodes(make_episodes((8, 9)))
    learner = learners.get(algo).make_learner(config, spec)
    keys = jax.random.split(jax.random.key(0), len(train.lanes))
    state = jax.vmap(learner.init)(keys, np.array([lane[1] for lane in train.lanes]))
    return Checkpoint(config, spec, state, 0, None)


@pytest.mark.slow
@pytest.mark.parametrize("algo, blocks_of_all", [("bc", 3), ("bc_safe", 6)])
def test_a_stopped_evaluation_goes_on_block_by_block(algo, blocks_of_all, monkeypatch):
    """Stopped after two blocks of four: the others run, and the rows are the same."""
    small_task(monkeypatch)
    loaded = make_checkpoint(algo)
    kept, steps = [], []
    whole = evaluate(loaded, CONFIG, on_rows=kept.append)
    assert len(kept) == blocks_of_all and kept[-1] == whole.results
    assert whole.paths.pose.shape[0] == 4 * (blocks_of_all // 3)

    def stopping(rows):
        kept.append(rows)
        if len(kept) == 2:
            raise Stopped

    kept.clear()
    with pytest.raises(Stopped):
        evaluate(loaded, CONFIG, on_rows=stopping)
    done = kept[-1]
    assert 0 < len(done) < len(whole.results)
    again = evaluate(loaded, CONFIG, done=done, on_step=steps.append)
    assert again.results == whole.results and again.paths is None
    left = 10 * blocks_of_all // 3 - 8
    assert sum(steps) == 10 * left
    nothing = evaluate(loaded, CONFIG, done=again.results, on_step=steps.clear)
    assert nothing.results == whole.results and sum(steps) == 10 * left


def test_only_what_is_asked_for_comes_back_and_all_is_kept(monkeypatch):
    """Layouts that were run before stay among the rows to be written."""
    small_task(monkeypatch)
    loaded = make_checkpoint("bc")
    first = evaluate(loaded, dataclasses.replace(CONFIG, num_episodes=3))
    kept = []
    config = dataclasses.replace(CONFIG, first_seed=1_000_002, num_episodes=3)
    second = evaluate(loaded, config, done=first.results, on_rows=kept.append)
    seeds = [1_000_002, 1_000_003, 1_000_004]
    assert sorted({r.episode_seed for r in second.results}) == seeds
    assert len(kept[-1]) == 5 * len(LIMITS)
    fresh = evaluate(loaded, config)
    assert fresh.results == second.results


def test_what_is_left_is_planned_per_variant_and_threshold():
    """Of a DT: the variants that are complete are left out of the passes."""
    experiment = learners.default_config("PointGoal1", "dt")
    config = EvaluationConfig(
        variants=("none", "sas", "gate"), cost_limits=(1.0, 2.0), num_episodes=4
    )
    [(plain, seeds), (gated, _)] = work_of(experiment, config)
    assert plain.variants == ("none", "sas") and plain.cost_limits == (1.0,)
    assert plain.judged == (1.0, 2.0) and len(seeds) == 4
    assert gated.variants == ("gate",) and gated.cost_limits == (1.0, 2.0)

    def row(variant, limit, seed):
        from tests.helpers.report_samples import make_row

        return make_row(
            variant=variant, cost_limit=limit, episode_seed=seed, train_seed=0
        )

    first = config.first_seed
    done = [row("none", x, first + i) for x in (1.0, 2.0) for i in range(4)]
    done += [row("sas", 1.0, first + i) for i in range(4)]
    done += [row("sas", 2.0, first + i) for i in range(3)]
    done += [row("gate", x, first + i) for x in (1.0, 2.0) for i in range(4)]
    [(part, seeds)] = work_of(experiment, config, done)
    assert part.variants == ("sas",) and seeds.tolist() == [first + 3]
    # Another training seed or a changed world is another row.
    other = dataclasses.replace(config, shift="delay:1")
    assert len(work_of(experiment, other, done)) == 2
