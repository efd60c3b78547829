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
import numpy as np

from sas_jax.alignment import drift as drift_lib
from sas_jax.alignment.algorithm1 import Alignment, align_batch, start_batch
from sas_jax.alignment.carry import Carry, Policy
from sas_jax.alignment.config import SASConfig
from sas_jax.alignment.diagnostics import Diagnostics, empty_diagnostics
from sas_jax.alignment.gate import RiskModel, pass_gate
from sas_jax.alignment.in_flight import Due, realign, rows_at
from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.alignment.tiles import Tiling
from sas_jax.alignment.variants import VARIANTS, check_variants, critic_of
from sas_jax.errors import UserError
from sas_jax.gaussian import gaussian_log_prob, normal_rows
from sas_jax.types import Key, Rows, TimeStep

_ACTIONS, _ALIGNMENT, _IN_FLIGHT, _DRIFT, _GATE = range(5)


def episode_key(key: Key, episode_seed: jax.Array, *, is_null: jax.Array) -> Key:
    """The stream of an episode's draws; `null` has its own."""
    episode = jax.random.fold_in(key, episode_seed)
    return jax.random.fold_in(episode, jnp.asarray(is_null, jnp.uint32))


def _alignment_keys(row_key: Key) -> Key:
    """`[2]` keys of a row: of its start, and of Algorithm 1."""
    return jax.random.split(jax.random.fold_in(row_key, _ALIGNMENT))


def _keys_for(purpose: int, keys: Key, timestep: jax.Array) -> Key:
    """`[B]` keys of the rows' draws of one purpose at their present time steps."""

    def one(row_key, t):
        return jax.random.fold_in(jax.random.fold_in(row_key, purpose), t)

    return jax.vmap(one)(keys, timestep)


def _check_size(carry: Carry, ts: TimeStep) -> None:
    """Raises UserError for observations of another size than the model's."""
    found, expected = ts.obs.shape[-1], carry.state.obs.shape[-1]
    if found != expected:
        raise UserError(
            f"observations of size {found}; expected {expected} as in the data that "
            "the model was trained on"
        )


def _of_rows(carry: Carry, value: Callable[[str], bool]) -> np.ndarray:
    """`[B]` bool: what `value` says of each row's variant. Static, as variants are."""
    episodes = carry.cost_limit.shape[0] // len(carry.variants)
    return np.repeat([value(v) for v in carry.variants], episodes)


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
    """Builds the policy of a sequence model under some variants.

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
      risk_model: cost critic of the variants that need one.
      tiling: how `begin` works off the imaginations of all rows; None means side by
        side, on one device.
      keep: what the diagnostics say besides (`kept_...`) of the alignment that an
        episode began with, the same for all its variants; for measurements.

    Raises:
      UserError: an unknown variant, or one that needs a critic, without one; drift of a
        model that cannot score observations.
    """
    variants = check_variants(variants)
    critical = critic_of(variants)
    if critical is not None and risk_model is None:
        raise UserError(
            f"variants: {critical} needs a cost critic (experiments.critic); none "
            "was given"
        )
    if config.track_drift and (model.foresee is None or model.score is None):
        raise UserError(
            "track_drift: the model has no foresee and score; expected a SequenceModel "
            "with both"
        )
    rows = _AlignedRows(
        model=model,
        config=config,
        variants=variants,
        horizon=horizon,
        target_return=target_return,
        max_cost=max_cost,
        report_limits=report_limits,
        episode_steps=episode_steps,
        # Where nobody asks it, the variables may hold no critic.
        risk_model=None if critical is None else risk_model,
        tiling=tiling,
        keep=keep,
    )
    return Policy(
        initial_carry=rows.initial_carry,
        begin=rows.begin,
        act=rows.act,
        diagnostics=rows.diagnostics,
        align_episode=rows.align_episode,
        narrow=rows.narrow,
    )


@dataclasses.dataclass(frozen=True)
class _AlignedRows:
    """The functions of `Policy`; the fields are `make_policy`'s arguments."""

    model: SequenceModel
    config: SASConfig
    variants: tuple[str, ...]
    horizon: int
    target_return: float
    max_cost: float
    report_limits: tuple[float, ...] | None
    episode_steps: int | None
    risk_model: RiskModel | None
    tiling: Tiling | None
    keep: Callable[[Alignment], dict[str, jax.Array]] | None

    # Where an episode begins ----------------------------------------------------

    def initial_carry(self, variables, rows: Rows, key: Key, obs_dim: int) -> Carry:
        """The carry of rows that have seen nothing yet."""
        count, variants = rows.cost_limit.shape[0], self.variants
        if count % len(variants):
            raise ValueError(
                f"{count} rows are no multiple of {len(variants)} variants"
            )
        is_null = np.repeat([v == "null" for v in variants], count // len(variants))
        keys = jax.vmap(lambda seed, null: episode_key(key, seed, is_null=null))(
            rows.episode_seed, jnp.asarray(is_null)
        )
        target = jnp.full(count, self.target_return)
        if rows.target_return is not None:
            target = jnp.array(rows.target_return, jnp.float32)
        state = self.model.start(
            variables,
            keys,
            jnp.zeros((count, obs_dim)),
            target,
            rows.cost_limit,
            self.model.context,
        )
        has_gate = any(VARIANTS[v].is_gated for v in variants)
        none = jnp.zeros(count, jnp.int32)
        return Carry(
            state=state,
            prompt=None,
            diagnostics=jax.tree.map(
                lambda x: jnp.broadcast_to(x, (count, *x.shape)),
                empty_diagnostics(len(self.report_limits or (0.0,))),
            ),
            keys=keys,
            target_return=target,
            cost_limit=jnp.array(rows.cost_limit, jnp.float32),
            num_realigned=none if self.config.realign_every else None,
            num_gated=none if has_gate else None,
            variants=variants,
        )

    def begin(self, variables, carry: Carry, ts: TimeStep, key: Key) -> Carry:
        """Aligns at the first observation of an episode, all rows at once."""
        del key  # every draw comes from the rows' own keys
        _check_size(carry, ts)
        variants, count = self.variants, ts.obs.shape[0]
        episodes = count // len(variants)

        # The first variant's rows stand for their episodes: `null` alone has other
        # keys, and it has no prompt.
        lead = next((i for i, v in enumerate(variants) if v != "null"), 0)
        rows = slice(lead * episodes, (lead + 1) * episodes)
        found = self.align_episodes(
            variables,
            carry.keys[rows],
            ts.obs[rows],
            jax.vmap(self.limits_of)(carry.cost_limit[rows]),
            carry.target_return[rows],
        )

        def by_row(x):
            """`[E, V, ...]` -> `[V * E, ...]`."""
            x = jnp.swapaxes(x, 0, 1)
            return x.reshape(count, *x.shape[2:])

        prompts, diagnostics = jax.tree.map(by_row, (found.prompts, found.diagnostics))
        kept = None
        if self.keep is not None:
            kept = jax.tree.map(
                lambda x: jnp.concatenate([x] * len(variants)),
                jax.vmap(self.keep)(found),
            )
        model = self.model
        window = jnp.full(count, model.context)
        if prompts is not None:
            window = jnp.where(prompts.is_present, model.prompt_window, window)
        is_short = _of_rows(carry, lambda v: v == "short")
        window = jnp.where(is_short, model.prompt_window, window)
        state = carry.state.replace(
            timestep=jnp.zeros(count, jnp.int32), window=window.astype(jnp.int32)
        )
        if self.config.realign_every and prompts is not None:
            prompts = prompts.replace(origin=jnp.zeros(count, jnp.int32))
        drift = None
        if self.config.track_drift:
            drift = self.begin_drift(variables, carry, state, ts.obs, prompts)
        return carry.replace(
            state=state,
            prompt=prompts,
            diagnostics=diagnostics,
            drift=drift,
            kept=kept,
        )

    def align_episode(
        self, variables, row_key, obs, cost_limits, target=None
    ) -> Alignment:
        """`begin`'s Algorithm 1 for one episode: obs `[O]`, cost_limits `[C]`."""
        target = self.target_return if target is None else target
        found = self.align_episodes(
            variables,
            row_key[None],
            obs[None],
            cost_limits[None],
            jnp.asarray(target, jnp.float32)[None],
        )
        return jax.tree.map(lambda x: x[0], found)

    def align_episodes(
        self, variables, row_keys, obs, cost_limits, targets
    ) -> Alignment:
        """Algorithm 1 from the first observations `[E, O]`; cost_limits `[E, C]`."""
        keys = jax.vmap(_alignment_keys)(row_keys)
        state = start_batch(
            self.model,
            variables,
            keys[:, 0],
            obs,
            targets,
            cost_limits[:, 0],
            tiling=self.tiling,
        )
        return align_batch(
            self.model,
            variables,
            keys[:, 1],
            state,
            cost_limits,
            config=self.config,
            variants=self.variants,
            horizon=self.horizon,
            max_cost=self.max_cost,
            risk_model=self.risk_model,
            tiling=self.tiling,
        )

    def limits_of(self, cost_limit):
        """Thresholds `[C]` at which a row's invariant set is reported."""
        if self.report_limits is None:
            return cost_limit[None]
        return jnp.asarray(self.report_limits)

    def begin_drift(self, variables, carry: Carry, state, obs, prompts):
        """`Drift` before the first action."""
        model = self.model
        # One by one: a product's shape must not tell how many there are.
        first = start_batch(
            model,
            variables,
            jax.vmap(_alignment_keys)(carry.keys)[:, 0],
            obs,
            carry.target_return,
            carry.cost_limit,
            tiling=self.tiling or Tiling(1),
        ).log_density

        def foresee():
            observed = model.observe(variables, state, prompts)
            action = observed.mean
            return model.foresee(variables, state, observed, action, prompts)[1]

        prediction = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(foresee)
        )
        return drift_lib.begin(
            first,
            prediction,
            len(self.report_limits or (0.0,)),
            self.config.energy_window,
        )

    # At every step --------------------------------------------------------------

    def act(self, variables, carry: Carry, ts: TimeStep, key: Key):
        """One action per row; return and cost tokens follow what really happened."""
        del key
        _check_size(carry, ts)
        model, first = self.model, ts.is_first
        state = carry.state.replace(
            obs=model.standardise(ts.obs),
            timestep=jnp.where(first, 0, carry.state.timestep),
            return_to_go=jnp.where(
                first, carry.target_return, carry.state.return_to_go - ts.reward
            ),
            cost_to_go=jnp.where(
                first, carry.cost_limit, carry.state.cost_to_go - ts.cost
            ),
        )
        carry = carry.replace(state=state)
        is_running = ts.is_running
        if is_running is None:
            is_running = jnp.ones_like(first)
        if self.config.realign_every and carry.prompt is not None:
            carry = self.realigned(variables, carry, ts.obs, is_running)
        observed = model.observe(variables, carry.state, carry.prompt)
        sample = observed.mean
        if self.config.sample_actions:
            keys = _keys_for(_ACTIONS, carry.keys, carry.state.timestep)
            noise = normal_rows(keys, sample.shape[1:])
            sample = sample + jnp.exp(observed.log_std) * noise
        if carry.num_gated is not None:
            sample, carry = self.gated(variables, carry, observed, sample, is_running)
        action = jnp.clip(sample, -1.0, 1.0)
        given = (variables, carry.state, observed, action, carry.prompt)
        if carry.drift is None:
            return action, carry.replace(state=model.commit(*given))
        state, prediction = model.foresee(*given)
        drift = self.drifted(
            variables, carry, ts.obs, observed, sample, prediction, is_running
        )
        return action, carry.replace(state=state, drift=drift)

    def realigned(self, variables, carry: Carry, obs, is_running) -> Carry:
        """Aligns the rows again whose time has come; `carry` is about to act."""
        config, timestep = self.config, carry.state.timestep
        is_due = is_running & (timestep > 0) & (timestep % config.realign_every == 0)
        horizon = config.realign_horizon or self.horizon
        steps = jnp.full_like(timestep, horizon)
        if self.episode_steps is not None:
            steps = jnp.maximum(self.episode_steps - timestep, 1)
        rows = Due(
            keys=_keys_for(_IN_FLIGHT, carry.keys, timestep),
            obs=obs,
            limits=jax.vmap(self.limits_of)(carry.cost_limit),
            num_steps=steps,
        )
        held = (carry.prompt, carry.diagnostics)
        parts, episodes = [], timestep.shape[0] // len(carry.variants)
        for i, name in enumerate(carry.variants):
            here = slice(i * episodes, (i + 1) * episodes)
            mine = rows_at(held, here)
            if not VARIANTS[name].has_prompt:
                parts.append((*mine, jnp.zeros(episodes, bool)))
                continue
            part = realign(
                self.model,
                variables,
                rows_at(carry.state, here),
                is_due[here],
                rows_at(rows, here),
                *mine,
                variant=name,
                config=config,
                horizon=horizon,
                max_cost=self.max_cost,
                risk_model=self.risk_model,
            )
            parts.append(part)
        prompts, found, is_new = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
        state = carry.state
        window = jnp.where(is_new, self.model.prompt_window, state.window)
        return carry.replace(
            state=state.replace(window=window.astype(jnp.int32)),
            prompt=prompts,
            diagnostics=found,
            num_realigned=carry.num_realigned + is_new,
        )

    def gated(self, variables, carry: Carry, observed, sample, is_running):
        """The rows' samples `[B, A]` after the gate, and the carry that counted."""
        shape = (self.config.gate_actions - 1, *sample.shape[1:])
        keys = _keys_for(_GATE, carry.keys, carry.state.timestep)
        sample, is_other = pass_gate(
            self.risk_model,
            self.config,
            variables,
            observed,
            obs=carry.state.obs,
            first=sample,
            noise=normal_rows(keys, shape),
            cost_limit=carry.cost_limit,
            is_gated=_of_rows(carry, lambda v: VARIANTS[v].is_gated),
        )
        num_gated = carry.num_gated + (is_other & is_running)
        return sample, carry.replace(num_gated=num_gated)

    def drifted(
        self, variables, carry: Carry, obs, observed, sample, prediction, is_running
    ):
        """`Drift` after a step: what happened, scored as imagination would have."""
        timestep = carry.state.timestep
        keys = _keys_for(_DRIFT, carry.keys, timestep)
        density = self.model.score(variables, keys, carry.drift.prediction, obs)
        density = jnp.where(timestep == 0, carry.drift.first, density)
        log_prob = gaussian_log_prob(sample, observed.mean, observed.log_std).sum(-1)
        return drift_lib.update(
            carry.drift,
            log_density=density + log_prob,
            prediction=prediction,
            timestep=timestep,
            level=carry.diagnostics.level,
            limits=jax.vmap(self.limits_of)(carry.cost_limit),
            is_running=is_running,
            config=self.config,
            max_cost=self.max_cost,
        )

    # What is known, and for whom ------------------------------------------------

    def diagnostics(self, carry: Carry) -> dict[str, jax.Array]:
        """Name -> `[B, ...]`; see `Diagnostics`, `drift.summary` and `Carry`."""
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

    def acts_as(self, name: str) -> str:
        """The first variant that acts in the same program; it is compiled once."""

        def program(variant):
            rules = (variant.first, variant.second) if self.config.realign_every else ()
            return variant.has_prompt, variant.is_gated, *rules

        mine = program(VARIANTS[name])
        return next(v for v, what in VARIANTS.items() if program(what) == mine)

    def narrow(self, carry: Carry, variant: int) -> Carry:
        """The carry of rows that are all of `self.variants[variant]`."""
        name = self.variants[variant]
        carry = carry.replace(variants=(self.acts_as(name),), kept=None)
        if not VARIANTS[name].has_prompt:
            carry = carry.replace(prompt=None)
        if not VARIANTS[name].is_gated:
            carry = carry.replace(num_gated=None)
        return carry
