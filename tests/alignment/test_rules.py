"""The table of rules: one from outside runs wherever ours do."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sas_jax.alignment import rules
from sas_jax.alignment.algorithm1 import align
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.in_flight import Due, realign
from sas_jax.alignment.rules import RULES, Candidates
from sas_jax.alignment.variants import VARIANTS, Variant, add_variant
from sas_jax.errors import UserError
from tests.helpers.line_policy import LENGTH, MODEL, state_at

HORIZON = 12
CONFIG = SASConfig(num_first=4, num_second=3, prompt_length=LENGTH)
VARIABLES = {"edge": jnp.float32(np.inf)}
ASKED = {"config": CONFIG, "horizon": HORIZON}


@pytest.fixture(autouse=True)
def tables_as_before():
    held = dict(RULES), dict(VARIANTS)
    yield
    for table, before in zip((RULES, VARIANTS), held, strict=True):
        table.clear()
        table.update(before)


def add_calm():
    """The candidate with the least mean energy, in both loops; it notes what it saw."""
    seen = []

    @rules.rule("calm")
    def calmest(key, candidates, config):
        seen.append(candidates)
        assert config is CONFIG
        return rules.selection(candidates.energies.mean(axis=1), candidates)

    add_variant("calm", Variant(first="calm", second="calm"))
    return seen


@pytest.mark.slow
def test_a_rule_from_outside_chooses_at_the_start():
    seen = add_calm()
    limits = jnp.array([0.5, 20.0])
    key = jax.random.key(1)
    found = align(
        MODEL, VARIABLES, key, state_at(0.3), limits, variants=("calm", "sas"), **ASKED
    )
    for loop, choice in (
        (found.first, found.first_choices["calm"]),
        (found.second["calm"], found.second_choices["calm"]),
    ):
        assert int(choice.selection.index) == int(loop.energies.mean(axis=1).argmin())
    assert bool(found.prompts.is_present.all())
    first, second = seen
    assert not jnp.shape(first.level) and first.risk is None
    chex.assert_shape([first.energies, first.reward, first.cost], (4, HORIZON))
    chex.assert_shape([second.energies, second.reward, second.cost], (3, HORIZON))
    chex.assert_shape(first.cost_limits, (2,))


@pytest.mark.slow
def test_a_rule_from_outside_chooses_in_flight():
    add_calm()
    rows = jax.tree.map(
        lambda x: jnp.repeat(x, 3, axis=0) if x.ndim else x, state_at(0.1)
    ).replace(timestep=jnp.array([4, 5, 6]))
    keys = jax.random.split(jax.random.key(2), 3)
    due = Due(keys, rows.x[:, None], jnp.ones((3, 1)), jnp.full(3, HORIZON))
    start = align(
        MODEL,
        VARIABLES,
        keys[0],
        state_at(0.1),
        jnp.ones(1),
        variants=("calm",),
        **ASKED,
    )
    held = jax.tree.map(
        lambda x: jnp.zeros((3, *x.shape[1:]), x.dtype),
        (start.prompts, start.diagnostics),
    )
    held = (held[0].replace(origin=jnp.zeros(3, jnp.int32)), held[1])
    is_due = jnp.array([True, False, True])
    prompts, _, is_new = realign(
        MODEL, VARIABLES, rows, is_due, due, *held, variant="calm", **ASKED
    )
    assert is_new.tolist() == is_due.tolist() == prompts.is_present.tolist()
    assert prompts.origin.tolist() == [4, 0, 6]


@pytest.mark.parametrize(
    "add, message",
    [
        (lambda: rules.rule("min")(None), "rule 'min': there is one"),
        (lambda: add_variant("sas", Variant()), "variant 'sas': there is one"),
        (lambda: add_variant("x", Variant(first="mim")), "no rule 'mim'.*'min'"),
        (lambda: add_variant("x", Variant(second="v")), "expected a first one"),
    ],
)
def test_what_does_not_fit_into_the_tables_is_one_line(add, message):
    with pytest.raises(UserError, match=message):
        add()


@pytest.mark.slow
def test_a_rule_that_returns_another_shape_is_named():
    @rules.rule("wide")
    def wide(key, candidates, config):
        found = rules.selection(candidates.energies.mean(axis=1), candidates)
        return found._replace(peak=jnp.zeros(2, jnp.int32))

    add_variant("wide", Variant(first="wide"))
    with pytest.raises(UserError, match=r"rule 'wide' returned peak of shape \(2,\)"):
        align(
            MODEL,
            VARIABLES,
            jax.random.key(1),
            state_at(0.3),
            jnp.ones(1),
            variants=("wide",),
            **ASKED,
        )


class TestFunctionsOfRules(chex.TestCase):
    """Every rule, with and without jit, on the device and on the host."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    def test_rules_choose_alike(self):
        rng = np.random.default_rng(5)
        energies = np.float32(rng.normal(size=(5, 9)))
        energies[3, 2] = np.nan
        seen = Candidates(
            energies=energies,
            reward=np.zeros((5, 9), np.float32),
            cost=np.float32(rng.uniform(size=(5, 9))),
            risk=np.float32(rng.uniform(size=(5, 9))),
            level=np.float32(1.0),
            cost_limits=np.ones(1, np.float32),
            num_steps=np.int32(9),
            counts=np.ones(9, bool),
            is_valid=np.isfinite(energies).all(axis=1),
        )
        expected = {"min": np.nanargmin(np.where(seen.is_valid, energies.max(1), 99))}
        for name, rule in RULES.items():
            choose = self.variant(lambda key, seen, r=rule: r.choose(key, seen, CONFIG))
            found = choose(jax.random.key(0), seen)
            chex.assert_shape(list(found), ())
            assert bool(found.is_valid) and int(found.index) != 3, name
            if name in expected:
                assert int(found.index) == expected[name]
