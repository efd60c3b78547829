"""An episode played by itself, with what was imagined on the way."""

import dataclasses

import numpy as np
import pytest

from sas_jax.errors import UserError
from sas_jax.evaluation import watching
from sas_jax.learners import override
from tests.evaluation.test_evaluate import make_checkpoint
from tests.helpers import short_goal

EXECUTE, STEPS = 10, short_goal.STEPS


@pytest.fixture(scope="module")
def checkpoint():
    with short_goal.registered() as name:
        yield _checkpoint(name)


def _checkpoint(task):
    loaded = make_checkpoint(task=task)
    settings = ["num_candidates=3", "horizon=11", f"execute={EXECUTE}", "max_error=1"]
    settings += ["margin=none", "num_reference=1", "tolerance=none"]
    config = override(loaded.config, [f"sas.plan.{s}" for s in settings])
    short = dataclasses.replace(config.sas, horizon=6)
    return loaded._replace(config=dataclasses.replace(config, sas=short))


@pytest.mark.slow
def test_plans_are_kept_and_executed(checkpoint):
    found = watching.watch(checkpoint, "plan", 500, cost_limit=20.0)
    assert found.obs.shape == (STEPS, 60) and found.pose.shape == (STEPS, 6)
    assert {"hazards", "vases"} <= set(found.layout)
    assert [plan.step for plan in found.plans] == list(range(0, STEPS, EXECUTE))
    for plan in found.plans:
        assert plan.obs.shape == (3, 11, 60) and plan.cost.shape == (3, 11)
        assert plan.is_in.all() and plan.chosen in range(3)
        # Every candidate begins with what was seen.
        np.testing.assert_allclose(
            plan.obs[:, 0], np.tile(found.obs[plan.step], (3, 1)), atol=1e-3
        )


@pytest.mark.slow
def test_variants_without_plans_have_none(checkpoint):
    found = watching.watch(checkpoint, "none", 500, cost_limit=20.0)
    assert found.plans == [] and found.cost.shape == (STEPS,)


def test_policies_without_a_world_model_cannot_be_watched(checkpoint):
    config = dataclasses.replace(checkpoint.config, algo="bc")
    with pytest.raises(UserError, match="no imagination to watch"):
        watching.watch(checkpoint._replace(config=config), "none", 1, cost_limit=1.0)
