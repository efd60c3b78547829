"""The aligned policy: chooses a prompt when an episode begins, then acts with it.

Rows are episodes x variants. All variants of an episode share the noise of their
actions too, so that they differ by their prompt alone; `null` has another stream.

A row's stream splits by purpose: 0 actions, 1 alignment, 2 re-alignment, 3 drift,
4 the gate's further candidates.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sas_jax.alignment import drift as drift_lib
from sas_jax.alignment.algorithm1 import Alignment, align, align_batch, start_batch
from sas_jax.alignment.carry import Carry, Policy
from sas_jax.alignment.config import (
    BY_RISK,
    CRITICAL,
    GATED,
    RULES,
    SASConfig,
    check_variants,
)
from sas_jax.alignment.diagnostics import Diagnostics, empty_diagnostics
from sas_jax.alignment.gate import RiskModel, pass_gate
from sas_jax.alignment.in_flight import Due, realign, rules_of
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.alignment.tiles import Tiling
from sas_jax.errors import UserError
from sas_jax.gaussian import gaussian_log_prob, normal_rows
from sas_jax.types import Key, Rows, TimeStep


def episode_key(key: Key, episode_seed: jax.Array, *, is_null: jax.Array) -> Key:
    """The stream of an episode's draws; `null` has its own."""
    episode = jax.random.fold_in(key, episode_seed)
    return jax.random.fold_in(episode, jnp.asarray(is_null, jnp.uint32))


def _alignment_keys(row_key: Key) -> Key:
    """`[2]` keys of a row: of its start, and of Algorithm 1."""
    return jax.random.split(jax.random.fold_in(row_key, 1))


def _check_size(carry: Carry, ts: TimeStep) -> None:
    """Raises UserError for observations of another size than the model's."""
    found, expected = ts.obs.shape[-1], carry.state.obs.shape[-1]
    if found != expected:
        raise UserError(
            f"observations of size {found}; expected {expected} as in the data that "
            "the model was trained on"
        )


def make_policy(
    model: SequenceModel,
    config: SASConfig,
    *,
    variants: tuple[str, ...],
    horizon: int,
    target_return: float,
    max_cost: float = 1.0,
    report_limits: tuple[float, ...] | None = None,
    episode_steps: int | None = None,
    risk_model: RiskModel | None = None,
    tiling: Tiling | None = None,
    keep: Callable[[Alignment], dict[str, jax.Array]] | None = None,
) -> Policy:
    """Builds the acting half of a `Learner`.

    Rows come variant by variant: row `v * E + e` is episode e under `variants[v]`, so a
    batch holds E episodes times all variants. `variables` is a dict with the model's
    "params" and "variances".

    Args:
      model: step functions. variants: static names. horizon: T of imagination.
      target_return: return token at the start of an episode.
      max_cost: C_max, the largest cost of a step.
      report_limits: thresholds at which the invariant set is reported; None means each
        row's own.
      episode_steps: longest episode; re-alignment counts no imagined step beyond it.
      risk_model: cost critic of the variants in `settings.CRITICAL`.
      tiling: how `begin` works off the imaginations of all rows; None means side by
        side, on one device.
      keep: what the diagnostics say besides (`kept_...`) of the alignment that an
        episode began with, the same for all its variants; for measurements.

    Raises:
      UserError: an unknown variant, or one that needs a critic, without one; drift of a
        model that cannot score observations.
    """
    variants = check_variants(variants)
    critical = [v for v in variants if v in CRITICAL]
    if critical and risk_model is None:
        raise UserError(
            f"variants: {critical[0]} needs a cost critic (experiments.critic); none "
            "was given"
        )
    if not critical:
        risk_model = None  # nobody asks it, and the variables may hold no critic
    has_gate = any(v in GATED for v in variants)
    if config.track_drift and (model.foresee is None or model.score is None):
        raise UserError(
            "track_drift: the model has no foresee and score; expected a SequenceModel "
            "with both"
        )
    num_variants = len(variants)
    realign_horizon = config.realign_horizon or horizon

    is_null = jnp.asarray([v == "null" for v in variants])

    def row_keys(rows, key):
        def one(seed, variant):
            return episode_key(key, seed, is_null=is_null[variant])

        return jax.vmap(one)(rows.episode_seed, rows.variant)

    def initial_carry(variables, rows: Rows, key: Key, obs_dim: int) -> Carry:
        count = rows.variant.shape[0]
        if count % num_variants:
            raise ValueError(f"{count} rows are no multiple of {num_variants} variants")
        keys = row_keys(rows, key)
        target = jnp.full(count, target_return)
        is_gated = jnp.asarray([v in GATED for v in variants])[rows.variant]
        if rows.target_return is not None:
            target = jnp.array(rows.target_return, jnp.float32)
        state = model.start(
            variables,
            keys,
            jnp.zeros((count, obs_dim)),
            target,
            rows.cost_limit,
            model.context,
        )
        return Carry(
            state=state,
            prompt=None,
            diagnostics=jax.tree.map(
                lambda x: jnp.broadcast_to(x, (count, *x.shape)),
                empty_diagnostics(len(report_limits or (0.0,))),
            ),
            keys=keys,
            target_return=target,
            cost_limit=jnp.array(rows.cost_limit, jnp.float32),
            rules=rules_of(variants, rows.variant) if config.realign_every else None,
            num_realigned=jnp.zeros(count, jnp.int32) if config.realign_every else None,
            is_gated=is_gated if has_gate else None,
            num_gated=jnp.zeros(count, jnp.int32) if has_gate else None,
            by_risk=any(v in BY_RISK for v in variants),
        )

    # Of Algorithm 1, for one episode and for all at once.
    asked = {
        "config": config,
        "variants": variants,
        "horizon": horizon,
        "max_cost": max_cost,
        "risk_model": risk_model,
    }

    def align_episode(variables, row_key, obs, cost_limits, target=None) -> Alignment:
        start_key, align_key = _alignment_keys(row_key)
        target = jnp.asarray(target_return if target is None else target, jnp.float32)
        state = model.start(
            variables,
            start_key[None],
            obs[None],
            target[None],
            cost_limits[:1],
            model.context,
        )
        return align(model, variables, align_key, state, cost_limits, **asked)

    def align_episodes(variables, row_keys, obs, cost_limits, targets) -> Alignment:
        """`align_episode` of all at once."""
        if tiling is None:
            each = jax.vmap(align_episode, (None, 0, 0, 0, 0))
            return each(variables, row_keys, obs, cost_limits, targets)
        keys = jax.vmap(_alignment_keys)(row_keys)
        given = (keys[:, 0], obs, targets, cost_limits[:, 0])
        state = start_batch(model, variables, *given, tiling=tiling)
        given = (model, variables, keys[:, 1], state, cost_limits)
        return align_batch(*given, tiling=tiling, **asked)

    def begin(variables, carry: Carry, ts: TimeStep, key: Key) -> Carry:
        """Aligns at the first observation of an episode, all rows at once."""
        del key  # every draw comes from the rows' own keys
        _check_size(carry, ts)
        count = ts.obs.shape[0]
        episodes = count // num_variants

        # The first variant's rows stand for their episodes: `null` alone has other
        # keys, and it has no prompt.
        lead = next((i for i, v in enumerate(variants) if v != "null"), 0)
        rows = slice(lead * episodes, (lead + 1) * episodes)
        found = align_episodes(
            variables,
            carry.keys[rows],
            ts.obs[rows],
            jax.vmap(limits_of)(carry.cost_limit[rows]),
            carry.target_return[rows],
        )

        def by_row(x):
            """`[E, V, ...]` -> `[V * E, ...]`."""
            x = jnp.swapaxes(x, 0, 1)
            return x.reshape(count, *x.shape[2:])

        prompts, diagnostics = jax.tree.map(by_row, (found.prompts, found.diagnostics))
        kept = None
        if keep is not None:
            kept = jax.tree.map(
                lambda x: jnp.concatenate([x] * num_variants), jax.vmap(keep)(found)
            )
        window = jnp.full(count, model.context)
        if prompts is not None:
            window = jnp.where(prompts.is_present, model.prompt_window, window)
        is_short = jnp.repeat(jnp.asarray([v == "short" for v in variants]), episodes)
        window = jnp.where(is_short, model.prompt_window, window)
        state = carry.state.replace(
            timestep=jnp.zeros(count, jnp.int32), window=window.astype(jnp.int32)
        )
        if config.realign_every and prompts is not None:
            prompts = prompts.replace(origin=jnp.zeros(count, jnp.int32))
        drift = None
        if config.track_drift:
            drift = begin_drift(variables, carry, state, ts.obs, prompts)
        return carry.replace(
            state=state,
            prompt=prompts,
            diagnostics=diagnostics,
            drift=drift,
            kept=kept,
        )

    def limits_of(cost_limit):
        """Thresholds `[C]` at which a row's invariant set is reported."""
        if report_limits is None:
            return cost_limit[None]
        return jnp.asarray(report_limits)

    def begin_drift(variables, carry, state, obs, prompts):
        start_keys = jax.vmap(_alignment_keys)(carry.keys)[:, 0]
        # One by one: a product's shape must not tell how many there are.
        first = start_batch(
            model,
            variables,
            start_keys,
            obs,
            carry.target_return,
            carry.cost_limit,
            tiling=tiling or Tiling(1),
        ).log_density

        def foresee():
            observed = model.observe(variables, state, prompts)
            action = observed.mean
            return model.foresee(variables, state, observed, action, prompts)[1]

        prediction = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(foresee)
        )
        num_limits = len(report_limits or (0.0,))
        return drift_lib.begin(first, prediction, num_limits, config.energy_window)

    def realigned(variables, carry, obs, is_running) -> Carry:
        """Aligns the rows again whose time has come; `carry` is about to act."""
        state, rules = carry.state, carry.rules
        timestep = state.timestep
        is_due = rules.has_prompt & is_running & (timestep > 0)
        is_due = is_due & (timestep % config.realign_every == 0)

        def key_of(row_key, t):
            return jax.random.fold_in(jax.random.fold_in(row_key, 2), t)

        steps = jnp.full_like(timestep, realign_horizon)
        if episode_steps is not None:
            steps = jnp.maximum(episode_steps - timestep, 1)
        prompts, found, is_new = realign(
            model,
            variables,
            state,
            is_due,
            Due(
                keys=jax.vmap(key_of)(carry.keys, timestep),
                obs=obs,
                rules=rules,
                limits=jax.vmap(limits_of)(carry.cost_limit),
                num_steps=steps,
            ),
            carry.prompt,
            carry.diagnostics,
            config=config,
            horizon=realign_horizon,
            max_cost=max_cost,
            risk_model=risk_model if carry.by_risk else None,
        )
        window = jnp.where(is_new, model.prompt_window, state.window)
        return carry.replace(
            state=state.replace(window=window.astype(jnp.int32)),
            prompt=prompts,
            diagnostics=found,
            num_realigned=carry.num_realigned + is_new,
        )

    def act(variables, carry: Carry, ts: TimeStep, key: Key):
        """One action per row; return and cost tokens follow what really happened."""
        del key
        _check_size(carry, ts)
        state = carry.state
        first = ts.is_first
        state = state.replace(
            obs=model.standardise(ts.obs),
            timestep=jnp.where(first, 0, state.timestep),
            return_to_go=jnp.where(
                first, carry.target_return, state.return_to_go - ts.reward
            ),
            cost_to_go=jnp.where(first, carry.cost_limit, state.cost_to_go - ts.cost),
        )
        is_running = ts.is_running
        if is_running is None:
            is_running = jnp.ones_like(first)
        if config.realign_every and carry.prompt is not None:
            carry = carry.replace(state=state)
            carry = realigned(variables, carry, ts.obs, is_running)
            state = carry.state
        timestep = state.timestep

        def keys_for(purpose):
            return jax.vmap(
                lambda row_key, t: jax.random.fold_in(
                    jax.random.fold_in(row_key, purpose), t
                )
            )(carry.keys, timestep)

        observed = model.observe(variables, state, carry.prompt)
        sample = observed.mean
        if config.sample_actions:
            noise = normal_rows(keys_for(0), sample.shape[1:])
            sample = sample + jnp.exp(observed.log_std) * noise
        if carry.is_gated is not None:
            shape = (config.gate_actions - 1, *sample.shape[1:])
            sample, is_other = pass_gate(
                risk_model,
                config,
                variables,
                observed,
                obs=state.obs,
                first=sample,
                noise=lambda: normal_rows(keys_for(4), shape),
                cost_limit=carry.cost_limit,
                is_gated=carry.is_gated,
            )
            is_other = is_other & is_running
            carry = carry.replace(num_gated=carry.num_gated + is_other)
        action = jnp.clip(sample, -1.0, 1.0)
        given = (variables, state, observed, action, carry.prompt)
        if carry.drift is None:
            return action, carry.replace(state=model.commit(*given))
        state, prediction = model.foresee(*given)
        density = model.score(variables, keys_for(3), carry.drift.prediction, ts.obs)
        density = jnp.where(timestep == 0, carry.drift.first, density)
        log_prob = gaussian_log_prob(sample, observed.mean, observed.log_std).sum(-1)
        drift = drift_lib.update(
            carry.drift,
            log_density=density + log_prob,
            prediction=prediction,
            timestep=timestep,
            level=carry.diagnostics.level,
            limits=jax.vmap(limits_of)(carry.cost_limit),
            is_running=is_running,
            config=config,
            max_cost=max_cost,
        )
        return action, carry.replace(state=state, drift=drift)

    def diagnostics(carry: Carry) -> dict[str, jax.Array]:
        found = {
            field.name: getattr(carry.diagnostics, field.name)
            for field in dataclasses.fields(Diagnostics)
        }
        if carry.num_realigned is not None:
            found["num_realigned"] = carry.num_realigned
        none = jnp.zeros_like(carry.cost_limit, jnp.int32)
        found["num_gated"] = none if carry.num_gated is None else carry.num_gated
        if carry.drift is not None:
            found |= drift_lib.summary(carry.drift)
        return found | {f"kept_{k}": v for k, v in (carry.kept or {}).items()}

    def narrow(carry: Carry, variant: int) -> Carry:
        name = variants[variant]
        if RULES[name] is None:
            carry = carry.replace(prompt=None, rules=None)
        if name not in GATED:
            carry = carry.replace(is_gated=None, num_gated=None)
        return carry.replace(by_risk=name in BY_RISK, kept=None)

    return Policy(initial_carry, begin, act, diagnostics, align_episode, narrow)
