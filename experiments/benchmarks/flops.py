"""The cost model: floating-point operations of matrix products, and bytes of the ring.

Only matrix products count, two operations for a multiply-add. With D the width, n the
tokens of a step, K the context and S = (K - 1) n slots of the ring (and L n more beside
a prompt of L steps), one cached step of one trajectory costs

    layers      24 D^2 a token and layer: queries 2, keys and values 4, projection 2,
                feed-forward 16; in the last layer keys and values (4 D^2) for all n
                tokens and the other 20 D^2 only for the state and the action token
    attention   4 D slots a query: scores and weighted values, over S and the tokens
                so far of the step itself (n - 1 with the state, n with the action)
    heads       2 (in x out) a layer of every MLP, and of the bins' shared network as
                many times as there are bins

and a training row the same 24 D^2, with 2 K n slots a query (its block and the block
before), times three for the backward pass; and half the rows once more forward where
training inputs carry the model's own errors.
"""

import math

from sas_jax.experiment import ExperimentConfig
from sas_jax.models import bins


def _tokens(config: ExperimentConfig) -> int:
    """n, tokens of a step."""
    return 4 if config.has_cost_token else 3


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> int:
    """One input vector through an MLP."""
    sizes = (inputs, *hidden, outputs)
    return sum(2 * a * b for a, b in zip(sizes, sizes[1:], strict=False))


def _policy(config: ExperimentConfig, obs_dim: int, action_dim: int) -> int:
    """The policy's head: hidden state, state, and what the targets ask for."""
    targets = 6 if config.has_cost_token else 3
    inputs = config.model.decoder.width + obs_dim + targets
    return mlp(inputs, config.model.policy_hidden, 2 * action_dim)


def _layers(config: ExperimentConfig, num_read: int) -> int:
    """All layers for the n tokens of one step; the last layer reads out `num_read`."""
    square, n = config.model.decoder.width**2, _tokens(config)
    full = (config.model.decoder.depth - 1) * n * 24 * square
    return full + n * 4 * square + num_read * 20 * square


def _embedding(config, obs_dim, action_dim) -> int:
    return 2 * config.model.decoder.width * (_tokens(config) - 2 + obs_dim + action_dim)


def _cached_step(config, obs_dim, action_dim, prompt_steps, num_read):
    width, depth = config.model.decoder.width, config.model.decoder.depth
    n = _tokens(config)
    slots = (config.model.decoder.context - 1 + prompt_steps) * n
    state_queries = (depth - 1) * (n - 1) + 1
    action_queries = depth - 1 + (num_read - 1)
    attention = state_queries * (slots + n - 1) + action_queries * (slots + n)
    return {
        "embedding": _embedding(config, obs_dim, action_dim),
        "layers": _layers(config, num_read),
        "attention": 4 * width * attention,
        "policy": _policy(config, obs_dim, action_dim),
    }


def act_step(
    config: ExperimentConfig, obs_dim: int, action_dim: int, *, prompt_steps: int = 0
) -> dict[str, int]:
    """One acting step of one row: part -> operations.

    Nothing reads the action's hidden state, so its last layer is only remembered.
    """
    return _cached_step(config, obs_dim, action_dim, prompt_steps, num_read=1)


def transition_decoder(
    config: ExperimentConfig, obs_dim: int, action_dim: int, num_bins: int
) -> int:
    """The transition's decoder for one state whose lidars have `num_bins` bins.

    Matrix products only: what geometry does to a bin is some hundred operations beside
    the 10 000 of its network.
    """
    width = config.model.decoder.width
    dense = config.model.latent_dim + width + 2 * obs_dim + action_dim
    if not num_bins:
        return mlp(dense, config.model.vae_hidden, 2 * obs_dim)
    others, features = obs_dim - num_bins, bins.HIDDEN[0]
    motion = config.model.latent_dim + 3 * others + action_dim + width
    near = 5 + 3  # readings of the neighbours and their last changes
    return (
        mlp(dense, config.model.vae_hidden, others + obs_dim)
        + mlp(motion, (), 3 * features + 3)
        + num_bins * mlp(near, bins.HIDDEN, 9)
    )


def imagined_step(
    config: ExperimentConfig,
    obs_dim: int,
    action_dim: int,
    *,
    density: str,
    num_bins: int = 0,
    num_importance: int = 1,
    prompt_steps: int = 0,
) -> dict[str, int]:
    """One imagined step of one trajectory: part -> operations.

    density: "transition", "marginal" or "none". num_bins: of all lidars.
    """
    width, hidden = config.model.decoder.width, config.model.vae_hidden
    context = width + 2 * obs_dim + action_dim
    decode = transition_decoder(config, obs_dim, action_dim, num_bins)
    heads = mlp(context, config.model.head_hidden, 1)
    parts = _cached_step(config, obs_dim, action_dim, prompt_steps, num_read=2)
    parts |= {"heads": heads, "transition": decode, "density": 0}
    if density == "transition":
        encode = mlp(obs_dim + context, hidden, 2 * config.model.latent_dim)
        parts["density"] = encode + num_importance * decode
    elif density == "marginal":
        latent = config.model.marginal_latent_dim
        parts["density"] = mlp(obs_dim, hidden, 2 * latent)
        parts["density"] += num_importance * mlp(latent, hidden, obs_dim)
    return parts


def ring_bytes(config: ExperimentConfig, *, prompt_steps: int = 0) -> dict[str, int]:
    """Bytes of remembered keys and values that one step of one trajectory moves.

    Read: the whole ring (and the prompt where each row has its own) in both passes;
    written: the n tokens of the step before. "held" is the ring's size.
    """
    decoder = config.model.decoder
    slot = 2 * decoder.depth * decoder.width * (2 if decoder.dtype == "bfloat16" else 4)
    held = (decoder.context - 1 + prompt_steps) * _tokens(config) * slot
    written = _tokens(config) * slot
    return {"held": held, "read": 2 * held, "written": written}


def weight_bytes(config: ExperimentConfig, parts: dict[str, int]) -> float:
    """Bytes of parameters that one step reads, however many trajectories there are.

    parts: the operations of a step. The layers are read in both passes; all else has
    one input vector a trajectory, so that two operations stand for one weight.
    """
    layers = 2 * config.model.decoder.depth * 12 * config.model.decoder.width**2
    others = sum(v for k, v in parts.items() if k not in ("layers", "attention"))
    return 4.0 * layers + 4.0 * others / 2


def training_step(
    config: ExperimentConfig,
    obs_dim: int,
    action_dim: int,
    *,
    rows: int,
    length: int,
    num_bins: int = 0,
) -> dict[str, int]:
    """One optimisation step on `rows` rows of `length` steps: part -> operations.

    The backward pass costs two products for each of the forward pass, but one where the
    input is data (embeddings, the marginal encoder's first layer).
    """
    width, hidden = config.model.decoder.width, config.model.vae_hidden
    decoder, n = config.model.decoder, _tokens(config)
    steps = rows * length
    padded = rows * math.ceil(length / decoder.context) * decoder.context
    context = width + 2 * obs_dim + action_dim
    queries = ((decoder.depth - 1) * n + 2) * padded
    heads = _policy(config, obs_dim, action_dim)
    heads += mlp(context, config.model.head_hidden, 1)
    decode = transition_decoder(config, obs_dim, action_dim, num_bins)
    transition = mlp(obs_dim + context, hidden, 2 * config.model.latent_dim) + decode
    marginal = mlp(obs_dim, hidden, 2 * config.model.marginal_latent_dim)
    marginal += mlp(config.model.marginal_latent_dim, hidden, obs_dim)
    first = (
        2 * obs_dim * (hidden[0] if hidden else 2 * config.model.marginal_latent_dim)
    )
    layers = padded * _layers(config, num_read=2)
    attention = queries * 4 * width * 2 * decoder.context * n
    embedding = _embedding(config, obs_dim, action_dim)
    again = (rows // 2) / rows if config.model.self_noise else 0.0
    own = again * (layers + attention + steps * (embedding + decode))
    return {
        "embedding": 2 * steps * embedding,
        "layers": 3 * layers,
        "attention": 3 * attention,
        "own_errors": int(own),
        "heads": 3 * steps * heads,
        "transition": 3 * steps * transition,
        "marginal": steps * (3 * marginal - first),
    }
