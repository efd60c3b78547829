"""Which fields of a prompt the policy's next action depends on, over all settings."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.experiment import make_model
from sas_jax.learners import sequence
from sas_jax.policies import cached
from sas_jax.types import PromptRows
from tests.helpers.histories import draw_history
from tests.helpers.model_fixtures import make_config, make_spec, make_variables

FIELDS = ("obs", "action", "return_to_go", "cost_to_go", "timestep")


def changed(segment, field):
    """The segment with one field far from what it was."""
    x = np.asarray(getattr(segment, field))
    return segment.replace(**{field: x + 7 if field == "timestep" else -x - 0.5})


def acting(config, spec, variables, segment, place):
    """The policy's distribution after the first of an episode's steps."""
    model = cached.make(
        make_model(config, spec), spec, prompt_length=2, prompt_place=place
    )
    prompt = model.encode_prompt(variables, segment, jnp.array(True))
    obs = np.ones((1, spec.obs_dim), np.float32)
    state = model.start(
        variables, jax.random.split(jax.random.key(0), 1), obs, [3.0], [2.0], 3
    )
    seen = model.observe(variables, state, prompt)
    state = model.commit(variables, state, seen, jnp.full((1, 2), 0.3), prompt)
    seen = model.observe(variables, state, prompt)
    return jnp.concatenate([seen.mean, seen.log_std])


def training(config, spec, variables, segment):
    """The policy's distribution in a row that has the segment in sight."""
    model = make_model(config, spec)
    prompt = PromptRows(
        **{name: jnp.asarray(getattr(segment, name))[None] for name in FIELDS},
        is_present=jnp.ones(1, bool),
        window=3,
    )
    obs, tokens = jnp.ones((1, 3, spec.obs_dim)), jnp.ones((1, 3))
    step = jnp.arange(3)[None]

    def run(net):
        z, _ = net.hidden(
            obs,
            jnp.full((1, 3, 2), 0.3),
            tokens,
            tokens,
            step,
            tokens > 0,
            False,
            prompt,
        )
        return jnp.stack(net.action_distribution(z, obs, tokens, tokens, step))

    return model.apply({"params": variables["params"]}, method=run)


@pytest.mark.slow
@pytest.mark.parametrize("policy_history", [True, False])
@pytest.mark.parametrize("action_history", [True, False])
@pytest.mark.parametrize("algo", ["dt", "cdt"])
def test_the_policy_reads_every_field_of_a_prompt(algo, action_history, policy_history):
    """Its actions too where the row's own are blanked; nothing at all where the policy
    sees the present only.
    """
    settings = {"action_history": action_history, "policy_history": policy_history}
    small = {"depth": 1, "width": 8}
    config = make_config(algo=algo, decoder=small, model=settings)
    spec = make_spec()
    variables = make_variables(config, spec)
    segment = draw_history(spec, (2,), seed=1, first_timestep=5)
    expected = {name: policy_history for name in FIELDS}
    expected["cost_to_go"] &= algo == "cdt"
    ways = {"rows": jax.jit(lambda s: training(config, spec, variables, s))}
    for place in ("pinned", "beside", "sliding"):
        ways[place] = jax.jit(
            lambda s, place=place: acting(config, spec, variables, s, place)
        )
    for way, run in ways.items():
        plain = np.asarray(run(segment))
        for name, is_read in expected.items():
            moved = np.abs(np.asarray(run(changed(segment, name))) - plain).max()
            assert moved > 1e-4 if is_read else moved == 0, (way, name, moved)


def test_prompted_variants_of_a_policy_that_sees_no_prompt_are_named():
    spec = make_spec()
    blind = make_config(model={"policy_history": False})
    with pytest.warns(sequence.UnseenPromptWarning, match="variants short, sas: with"):
        sequence.make_policy(blind, spec, variants=("none", "short", "sas"))
    seeing = dataclasses.replace(
        blind, model=dataclasses.replace(blind.model, policy_history=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sequence.make_policy(blind, spec, variants=("none", "null"))
        sequence.make_policy(seeing, spec, variants=("none", "sas"))
