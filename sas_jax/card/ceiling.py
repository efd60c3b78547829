"""What perfect dynamics would predict: the card's ceiling, from the real environment.

The card's correlation of predicted and real cost mixes two errors: the dynamics' and
the policy's, which does not act as the data's behaviours did. Here the policy acts in
the real environment from the very states that imagination starts from, which are
reached by replaying the recorded actions. Only recordings of `experiments.collect` can
be replayed: they name each episode's layout seed.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment.sequence_model import SequenceModel
from sas_jax.card.imagined import HORIZONS, correlation
from sas_jax.data import device_rows
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.gaussian import split_keys
from sas_jax.policies.teacher_forcing import at_present

# A replayed observation may differ from the recorded one by float32's rounding only.
_REPLAY_ERROR = 1e-4


def _make_act(model: SequenceModel, variables: Any, keys: jax.Array):
    """`(state, obs, tokens, recorded action, is_replayed, t) -> (action, state)`.

    The model sees the replayed steps as its past; after them its own actions count.
    """

    @jax.jit
    def act(variables, state, obs, tokens, recorded, is_replayed, t):
        state = at_present(state, model.standardise(obs), *tokens)
        observed = model.observe(variables, state, None)
        noise = jax.vmap(
            lambda key: jax.random.normal(
                jax.random.fold_in(key, t), observed.mean.shape[1:]
            )
        )(keys)
        action = observed.mean + jnp.exp(observed.log_std) * noise
        action = jnp.where(is_replayed[:, None], recorded, jnp.clip(action, -1, 1))
        return action, model.commit(variables, state, observed, action, None)

    return lambda *inputs: act(variables, *inputs)


def ceiling(
    model: SequenceModel,
    spec: DataSpec,
    variables: Any,
    held_out: Episodes,
    layout_seeds: np.ndarray,
    *,
    num_starts: int = 128,
    num_branches: int = 4,
    context: int = 20,
    horizon: int = 100,
    seed: int = 0,
    num_workers: int | None = None,
) -> dict[str, Any]:
    """Real rollouts of the policy from held-out states against the data's own future.

    Args:
      held_out: episodes that training has not seen. layout_seeds: `[E]` theirs.
      num_starts: states, uniform over where they fit; num_branches: rollouts of each.
      context: recorded steps before a start, at least. horizon: steps after it.

    Returns:
      horizons, correlation (mean cost of the branches against the data's),
      correlation_single (one branch), rate_policy and rate_data (cost a step), starts,
      branches.

    Raises:
      UserError: episodes shorter than context + horizon, or a replay that departs from
        the recording (another simulator version, or other data).
    """
    lengths = np.asarray(held_out.lengths)
    room = lengths - context - horizon
    if (room < 0).all():
        raise UserError(
            f"held-out episodes of at most {lengths.max()} steps; expected at least "
            f"{context + horizon}"
        )
    rng = np.random.default_rng(seed)
    weights = np.maximum(room + 1, 0)
    episode = rng.choice(len(lengths), num_starts, p=weights / weights.sum())
    begin = rng.integers(0, room[episode] + 1) + context
    real = np.stack(
        [
            held_out.costs[held_out.offsets[e] + b :][:horizon] > 0
            for e, b in zip(episode, begin, strict=True)
        ]
    )
    costs = _branches(
        model,
        spec,
        variables,
        held_out,
        layout_seeds,
        np.tile(episode, num_branches),
        np.tile(begin, num_branches),
        horizon,
        seed,
        num_workers,
    ).reshape(num_branches, num_starts, horizon)
    horizons = [h for h in HORIZONS if h <= horizon]
    sums = [(costs[:, :, :h].sum(-1), real[:, :h].sum(-1)) for h in horizons]
    return {
        "horizons": horizons,
        "correlation": [correlation(p.mean(0), r) for p, r in sums],
        "correlation_single": [
            float(np.mean([correlation(branch, r) for branch in p])) for p, r in sums
        ],
        "rate_policy": [float(costs[:, :, :h].mean()) for h in horizons],
        "rate_data": [float(real[:, :h].mean()) for h in horizons],
        "starts": num_starts,
        "branches": num_branches,
    }


def _branches(
    model,
    spec,
    variables,
    held_out,
    layout_seeds,
    episode,
    begin,
    horizon,
    seed,
    num_workers,
):
    """Costs `[P, horizon]` of P rollouts, each after the replay of its own past."""
    count = len(episode)
    data = device_rows.to_device(held_out, spec)
    returns = np.asarray(data.return_to_go) * spec.return_scale
    limits = np.asarray(data.cost_to_go) * spec.cost_scale
    entry, step = np.asarray(data.starts)[episode], held_out.offsets[episode]
    last = np.asarray(held_out.lengths)[episode] - 1
    keys = split_keys(jax.random.key(seed), count)
    act = _make_act(model, variables, keys)
    costs = np.zeros((count, horizon))
    with VectorEnv(held_out.task, count, num_workers=num_workers) as envs:
        batch = envs.reset(np.asarray(layout_seeds)[episode])
        state = model.start(
            variables,
            keys,
            jnp.asarray(batch.obs),
            jnp.zeros(count),
            jnp.zeros(count),
            model.context,
        )
        tokens = [np.zeros(count, np.float32), np.zeros(count, np.float32)]
        for t in range(int(begin.max()) + horizon):
            now = np.minimum(t, last)
            is_replayed = t < begin
            if t % 100 == 0:
                _check_replay(batch.obs, held_out, step + now, is_replayed)
            for token, recorded in zip(tokens, (returns, limits), strict=True):
                token[t <= begin] = recorded[entry + now][t <= begin]
            action, state = act(
                state,
                batch.obs,
                tuple(tokens),
                held_out.actions[step + now],
                is_replayed,
                t,
            )
            batch = envs.step(np.asarray(action))
            tokens[0] -= batch.reward.astype(np.float32)
            tokens[1] -= batch.cost.astype(np.float32)
            after = t - begin
            rows = np.flatnonzero((after >= 0) & (after < horizon))
            costs[rows, after[rows]] = batch.cost[rows] > 0
    return costs


def _check_replay(obs, held_out, where, is_replayed):
    error = np.abs(obs - held_out.observations[where])[is_replayed]
    if error.size and error.max() > _REPLAY_ERROR:
        raise UserError(
            f"replay of {held_out.task}: an observation is {error.max():.2g} off the "
            "recording; expected the data and the simulator that made it"
        )
