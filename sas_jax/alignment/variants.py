"""The variants that are evaluated beside each other, and what makes each of them.

A variant is how an episode gets its prompt and how its actions are chosen. `null` is
`none` with another action seed: the noise floor of every comparison. `short` is `none`
with the window that a pinned prompt leaves: what L steps of memory are worth. `quiet`
is `none` with the action noise that unpushed plans have, and `plan_rand` executes any
plan as it comes: what the choice among plans is worth. `cprtg` asks for a return that
is learnt from the budget that is left; `plan_cprtg` plans as well. `guided` exaggerates
what the limit on cost changes (classifier-free guidance; `guidance`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sas_jax.alignment.rules import RULES
from sas_jax.errors import UserError, nearest


class Variant(NamedTuple):
    """What makes a variant.

    first: rule of line 6 of Algorithm 1; None means that there is no prompt.
    second: rule of line 14; None means that there is no second loop, and the first
      loop's choice is the prompt.
    is_gated: actions pass the gate of a cost critic (`gate`).
    plan: rule by which one of the imagined plans is executed (`plan`); None: none is.
    action_scale: of the policy's own noise when it samples an action.
    values: what a cost critic says is still to come after the last imagined step counts
      as a plan's cost (`choosing`).
    asks: the return that it asks for is learnt from the budget that is left (`asked`).
    is_supported: plans keep to the data as a support model knows them (`support`).
    recalls: in the cost of its plans counts what the whole episode has seen (`recall`).
    guidance: w, how much of what the limit on cost changes in the policy's mean is
      done; 1 is the policy as it is (`guidance`).
    """

    first: str | None = None
    second: str | None = None
    is_gated: bool = False
    plan: str | None = None
    action_scale: float = 1.0
    values: bool = False
    asks: bool = False
    is_supported: bool = False
    recalls: bool = False
    guidance: float = 1.0

    @property
    def has_prompt(self) -> bool:
        """Whether Algorithm 1 runs for it."""
        return self.first is not None

    @property
    def needs_critic(self) -> bool:
        """Whether it asks a cost critic: to choose, for plans, or at its gate."""
        return self.is_gated or self.values or self.chooses_by_risk

    @property
    def sees_limit(self) -> bool:
        """Whether it acts differently under another cost threshold."""
        return (
            self.is_gated
            or self.asks
            or self.guidance != 1.0
            or any(
                name and RULES[name].sees_limit
                for name in (self.first, self.second, self.plan)
            )
        )

    @property
    def chooses_by_risk(self) -> bool:
        """Whether a cost critic chooses its prompt."""
        chosen = (self.first, self.second, self.plan)
        return any(name and RULES[name].needs_risk for name in chosen)


VARIANTS: dict[str, Variant] = {
    "none": Variant(),
    "null": Variant(),
    "short": Variant(),
    "rand": Variant(first="random"),
    "u": Variant(first="min"),
    "sas": Variant(first="min", second="v"),
    "uv_sum": Variant(first="min", second="uv"),
    "maxmax": Variant(first="max", second="v"),
    "critic": Variant(first="risk", second="risk"),
    "gate": Variant(is_gated=True),
    "gate_sas": Variant(first="min", second="v", is_gated=True),
    "gate_critic": Variant(first="risk", second="risk", is_gated=True),
    "plan": Variant(plan="budget"),
    "plan_value": Variant(plan="budget", values=True),
    "plan_supported": Variant(plan="budget", is_supported=True),
    "plan_recall": Variant(plan="budget", recalls=True),
    "plan_weighted": Variant(plan="weighted"),
    "plan_rand": Variant(plan="any"),
    "plan_sas": Variant(first="min", second="v", plan="budget"),
    "quiet": Variant(action_scale=0.44),
    "cprtg": Variant(asks=True),
    "plan_cprtg": Variant(plan="budget", asks=True),
    "guided": Variant(guidance=2.0),
}


def add_variant(name: str, variant: Variant) -> None:
    """Makes a variant known under `name`.

    Raises:
      UserError: the name is taken, a rule is not in `rules.RULES`, a second loop
        would have no first prompt, or a guided one has prompts or plans.
    """
    if name in VARIANTS:
        raise UserError(f"variant {name!r}: there is one of that name already")
    for rule in (variant.first, variant.second, variant.plan):
        if rule is not None and rule not in RULES:
            raise UserError(
                f"variant {name!r}: no rule {rule!r}{nearest(rule, RULES)} "
                f"(known: {', '.join(RULES)})"
            )
    if variant.second is not None and variant.first is None:
        raise UserError(f"variant {name!r}: a second rule; expected a first one too")
    if variant.guidance != 1.0 and (variant.plan or variant.has_prompt):
        raise UserError(f"variant {name!r}: guidance; expected no prompt and no plan")
    VARIANTS[name] = variant


def check_variants(variants: tuple[str, ...]) -> tuple[str, ...]:
    """Returns `variants`; raises UserError for an unknown, repeated or missing one."""
    if isinstance(variants, str):
        raise UserError(f"variants: {variants!r}; expected a tuple, ({variants!r},)")
    if not variants:
        raise UserError(f"variants: expected at least one of {', '.join(VARIANTS)}")
    for variant in variants:
        if variant not in VARIANTS:
            raise UserError(
                f"variants: unknown {variant!r}{nearest(variant, VARIANTS)} "
                f"(known: {', '.join(VARIANTS)})"
            )
    if len(set(variants)) != len(variants):
        raise UserError(f"variants: {','.join(variants)} names one twice")
    return tuple(variants)


class Companion(NamedTuple):
    """What some variants need beside the checkpoint; experiments.NAME fits it.

    what: in words. needed: whether a variant needs it.
    """

    what: str
    needed: Callable[[Variant], bool]


COMPANIONS: dict[str, Companion] = {
    "critic": Companion("a cost critic", lambda v: v.needs_critic),
    "asking": Companion("a model of the return to ask for", lambda v: v.asks),
    "support": Companion("a support model", lambda v: v.is_supported),
}


def companions_of(variants: tuple[str, ...]) -> dict[str, str]:
    """Name of a companion -> the first variant that needs it."""
    users = {name: _first(variants, part.needed) for name, part in COMPANIONS.items()}
    return {name: user for name, user in users.items() if user is not None}


def check_companions(variants: tuple[str, ...], given: Mapping[str, Any]) -> None:
    """Raises UserError where a variant needs a companion that is not there, or None."""
    for name, user in companions_of(variants).items():
        if given.get(name) is None:
            raise UserError(
                f"variants: {user} needs {COMPANIONS[name].what}, which no {name} "
                f"gives; expected one of experiments.{name}"
            )


def valuing_of(variants: tuple[str, ...]) -> str | None:
    """The first variant that needs a critic's value, or None."""
    return _first(variants, lambda v: v.values)


def recalling_of(variants: tuple[str, ...]) -> str | None:
    """The first variant that needs a memory beside the model's, or None."""
    return _first(variants, lambda v: v.recalls)


def guided_of(variants: tuple[str, ...]) -> str | None:
    """The first variant that exaggerates what a limit changes, or None."""
    return _first(variants, lambda v: v.guidance != 1.0)


def planning_of(variants: tuple[str, ...]) -> str | None:
    """The first variant that executes plans, or None."""
    return _first(variants, lambda v: v.plan is not None)


def _first(variants: tuple[str, ...], needs: Callable[[Variant], bool]) -> str | None:
    """The first of those that the table knows; an algorithm's own need nothing."""
    known = (v for v in variants if v in VARIANTS)
    return next((v for v in known if needs(VARIANTS[v])), None)
