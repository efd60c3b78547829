"""A variant's episodes do not depend on what is evaluated with it."""

import jax
import jax.numpy as jnp
import pytest

from sas_jax.learners import sequence
from sas_jax.settings import VARIANTS
from sas_jax.types import Rows, TimeStep
from tests.fresh_process import output_of
from tests.model_fixtures import make_config, make_critic, make_spec, make_variables

EPISODES = 3


def act_arguments(variants, variant, **sas):
    """`act` and its arguments (shapes) for rows of `variant`, begun with others."""
    config = make_config(decoder={"depth": 1}, sas={"horizon": 4, **sas})
    spec = make_spec()
    learner = sequence.make(config, spec, variants=variants)
    variables = make_variables(config, spec) | {"critic": make_critic(spec.obs_dim)}
    index, rows = variants.index(variant), len(variants) * EPISODES
    key = jax.random.key(0)

    def steps(rows):
        zeros = jnp.zeros(rows)
        obs = jnp.zeros((rows, spec.obs_dim))
        return TimeStep(obs, zeros, zeros, zeros > 0, zeros == 0)

    def begun():
        given = Rows(
            variant=jnp.repeat(jnp.arange(len(variants)), EPISODES),
            cost_limit=jnp.full(rows, 20.0),
            episode_seed=jnp.arange(rows, dtype=jnp.uint32),
        )
        carry = learner.initial_carry(variables, given, key)
        carry = learner.begin(variables, carry, steps(rows), key)
        carry = learner.narrow(carry, index)
        return jax.tree.map(lambda x: x[:EPISODES] if x.ndim else x, carry)

    return learner.act, (variables, jax.eval_shape(begun), steps(EPISODES), key)


def act_program(variants, variant, **sas):
    """The program, as text, in which rows of `variant` act when begun with others."""
    act, arguments = act_arguments(variants, variant, **sas)
    return jax.jit(act, donate_argnums=1).lower(*arguments).as_text()


@pytest.mark.parametrize(
    "sas", [{}, {"realign_every": 2, "track_drift": True}], ids=["plain", "all"]
)
@pytest.mark.parametrize("variant", ["none", "sas", "gate"])
def test_a_variant_acts_in_a_program_of_its_own(variant, sas):
    """Line for line, alone and beside all the others, critics and gates included."""
    alone = act_program((variant,), variant, **sas)
    assert act_program(VARIANTS, variant, **sas) == alone
    other = {"none": "sas", "sas": "gate_sas", "gate": "none"}[variant]
    assert act_program((other,), other, **sas) != alone


@pytest.mark.parametrize(
    "sas", [{}, {"realign_every": 2, "track_drift": True}], ids=["plain", "all"]
)
def test_the_second_step_acts_in_the_first_ones_program(sas):
    """Shapes, types and their weakness come back as they went in."""
    act, arguments = act_arguments(("gate_sas",), "gate_sas", **sas)
    _, after = jax.eval_shape(act, *arguments)
    assert jax.tree.structure(after) == jax.tree.structure(arguments[1])
    for old, new in zip(*map(jax.tree.leaves, (arguments[1], after)), strict=True):
        kept = [(x.shape, x.dtype, x.weak_type) for x in (old, new)]
        assert kept[0] == kept[1]


def run(case):
    output = output_of("variant_runs", case, optimised=True)
    assert output.split("\n") == ["equal", ""]


def test_none_is_the_same_alone_and_beside_a_gate_or_sas():
    """Bit for bit, with XLA's optimisations on; beside other thresholds, too."""
    run("few")


@pytest.mark.slow
def test_all_variants_are_the_same_beside_any_other():
    """Re-alignments included."""
    run("all")
