"""A variant's episodes do not depend on what is evaluated with it."""

import functools

import jax
import jax.numpy as jnp
import pytest

from sas_jax.alignment import variants as variants_lib
from sas_jax.learners import sequence
from sas_jax.types import Rows, TimeStep
from tests.helpers.fresh_process import output_of
from tests.helpers.model_fixtures import (
    make_config,
    make_critic,
    make_spec,
    make_variables,
)

EPISODES = 3
# Guidance takes a CDT, a memory the task's own sensors.
VARIANTS = tuple(
    name
    for name, what in variants_lib.VARIANTS.items()
    if what.guidance == 1 and not what.recalls
)
KEY = jax.random.key(0)
PLAIN, ALL = (), (("realign_every", 2), ("track_drift", True))


@functools.cache
def begun(variants, keep, sas):
    """The learner, its variables and the shapes of a carry that has begun."""
    config = make_config(decoder={"depth": 1}, sas={"horizon": 4, **dict(sas)})
    spec = make_spec()
    learner = sequence.make_policy(config, spec, variants=variants, keep=keep)
    variables = make_variables(config, spec) | {"critic": make_critic(spec.obs_dim)}
    rows = len(variants) * EPISODES

    def begin():
        given = Rows(
            cost_limit=jnp.full(rows, 20.0),
            episode_seed=jnp.arange(rows, dtype=jnp.uint32),
        )
        carry = learner.initial_carry(variables, given, KEY)
        return learner.begin(variables, carry, steps(rows, spec.obs_dim), KEY)

    return learner, variables, jax.eval_shape(begin), spec.obs_dim


def steps(rows, obs_dim):
    zeros = jnp.zeros(rows)
    return TimeStep(jnp.zeros((rows, obs_dim)), zeros, zeros, zeros > 0, zeros == 0)


def act_arguments(variants, variant, keep=None, sas=()):
    """`act` and its arguments (shapes) for rows of `variant`, begun with others."""
    learner, variables, carry, obs_dim = begun(variants, keep, sas)

    def of_variant(carry):
        carry = learner.narrow(carry, variants.index(variant))
        return jax.tree.map(lambda x: x[:EPISODES] if x.ndim else x, carry)

    carry = jax.eval_shape(of_variant, carry)
    return learner.act, (variables, carry, steps(EPISODES, obs_dim), KEY)


@functools.cache
def act_program(*given, **settings):
    """The program, as text, in which `act_arguments` act."""
    act, arguments = act_arguments(*given, **settings)
    return jax.jit(act, donate_argnums=1).lower(*arguments).as_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant, sas",
    [("none", PLAIN), ("none", ALL), ("sas", ALL), ("gate", ALL)],
    ids=["none-plain", "none-all", "sas-all", "gate-all"],
)
def test_a_variant_acts_in_a_program_of_its_own(variant, sas):
    """Line for line, alone and beside all the others, critics and gates included."""
    alone = act_program((variant,), variant, sas=sas)
    assert act_program(VARIANTS, variant, sas=sas) == alone
    other = {"none": "sas", "sas": "gate_sas", "gate": "none"}[variant]
    assert act_program((other,), other, sas=sas) != alone


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["none", "sas"])
def test_recording_how_an_episode_began_changes_no_program(variant):
    variants = ("none", "sas")
    _, _, carry, _ = begun(variants, first_energies, PLAIN)
    assert carry.kept["energies"].shape[0] == len(variants) * EPISODES
    recorded = act_program(variants, variant, first_energies)
    assert recorded == act_program((variant,), variant)


def first_energies(found):
    return {"energies": found.first.energies}


@pytest.mark.slow
@pytest.mark.parametrize("sas", [PLAIN, ALL], ids=["plain", "all"])
def test_the_second_step_acts_in_the_first_ones_program(sas):
    """Shapes, types and their weakness come back as they went in."""
    act, arguments = act_arguments(("gate_sas",), "gate_sas", sas=sas)
    _, after = jax.eval_shape(act, *arguments)
    assert jax.tree.structure(after) == jax.tree.structure(arguments[1])
    for old, new in zip(*map(jax.tree.leaves, (arguments[1], after)), strict=True):
        kept = [(x.shape, x.dtype, x.weak_type) for x in (old, new)]
        assert kept[0] == kept[1]


def run(case):
    output = output_of("variant_runs", case, optimised=True)
    assert output.split("\n") == ["equal", ""]


@pytest.mark.slow
def test_none_is_the_same_alone_and_beside_a_gate_or_sas():
    """Bit for bit, with XLA's optimisations on; beside other thresholds, too."""
    run("few")


@pytest.mark.slow
def test_all_variants_are_the_same_beside_any_other():
    """Re-alignments included."""
    run("all")
