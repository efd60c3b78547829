"""The world-model card: is this model worth imagining with? (docs/concepts/card.md)

Measured on held-out episodes, in the model's own units, without clipping imagined
states. Each start gets `context` real steps, fed through the same cached step that
imagines, then runs free. All numbers are JSON; the report reads nothing else.
"""

from typing import Any

from sas_jax.card.imagined import imagination_parts
from sas_jax.card.one_step import transition_parts
from sas_jax.card.rows import draw_rows
from sas_jax.card.whole_episode import whole_episodes
from sas_jax.data import device_rows
from sas_jax.data.episodes import Episodes
from sas_jax.data.spec import DataSpec
from sas_jax.experiment import ExperimentConfig, make_model
from sas_jax.learners import sequence
from sas_jax.types import TrainState


def make_card(
    config: ExperimentConfig,
    spec: DataSpec,
    state: TrainState,
    held_out: Episodes,
    *,
    num_starts: int = 256,
    context: int = 20,
    horizon: int = 100,
    num_candidates: int = 8,
    num_whole_episodes: int = 64,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures a model on held-out episodes.

    Args:
      config, spec, state: the model (state without a seed axis).
      held_out: episodes that training has not seen.
      num_starts: rows; context, horizon: real steps before, imagined steps after.
      num_candidates: imaginations per start whose mean cost is the prediction.
      num_whole_episodes: trajectories imagined from first state to last step.
      seed: fixes rows and draws.

    Returns:
      dict of parts: log_density, spread, cost, pit, transition, latents, next_return,
      cost_head, policy, whole_episode, settings. Costs count per step; log-densities
      are nats in standardised units over the active dimensions.
    """
    longest = int(held_out.lengths.max())
    context = max(min(context, longest // 2), 1)
    horizon = max(min(horizon, longest - context), 1)
    data = device_rows.to_device(held_out, spec)
    rows = draw_rows(data, num_starts, context, horizon, seed)
    model = sequence.make_sequence_model(config, spec)
    net = make_model(config, spec)
    variables = sequence.variables_of(state)
    card = imagination_parts(
        model, net, spec, variables, rows, seed, num_candidates
    ) | transition_parts(net, spec, variables, rows, seed)
    card["whole_episode"] = whole_episodes(
        model,
        spec,
        variables,
        held_out,
        num_trajectories=num_whole_episodes,
        seed=seed,
    )
    card["settings"] = {
        "starts": num_starts,
        "context": context,
        "horizon": horizon,
        "held_out_episodes": held_out.num_episodes,
        "held_out_fingerprint": held_out.fingerprint(),
        "step": int(state.step),
    }
    return card
