"""Small data, configurations and models that the tests of the model core share."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.critic import network as critic_network
from sas_jax.data import spec as spec_lib
from sas_jax.data.episodes import Episodes
from sas_jax.experiment import ExperimentConfig, TrainConfig, make_model
from sas_jax.models.transformer import DecoderConfig
from sas_jax.models.world_model import WorldModelConfig
from sas_jax.types import Batch


def make_episodes(
    lengths=(40, 25, 40, 31, 12, 40), *, obs_dim=5, action_dim=2, seed=0
) -> Episodes:
    """A damped random walk that actions push, whose last state column is constant.

    A step costs 1 where the state it leads to has a first coordinate above 1.
    """
    rng = np.random.default_rng([3, seed])
    push = rng.normal(size=(action_dim, obs_dim - 1))
    obs, actions, rewards, costs, finals = [], [], [], [], []
    for length in lengths:
        state = rng.normal(size=obs_dim - 1)
        for _ in range(length):
            action = rng.uniform(-1, 1, action_dim)
            after = 0.9 * state + 0.3 * action @ push
            after = after + 0.1 * rng.normal(size=obs_dim - 1)
            obs.append([*state, 7.0])
            actions.append(action)
            rewards.append(after[1] - state[1] + 0.1)
            costs.append(float(after[0] > 1.0))
            state = after
        finals.append([*state, 7.0])
    return Episodes(
        task="PointGoal1",
        observations=np.asarray(obs, np.float32),
        actions=np.asarray(actions, np.float32),
        rewards=np.asarray(rewards, np.float32),
        costs=np.asarray(costs, np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        final_observations=np.asarray(finals, np.float32),
        terminated=np.zeros(len(lengths), bool),
    )


def make_config(
    *, decoder=None, model=None, train=None, sas=None, algo="dt"
) -> ExperimentConfig:
    """A tiny experiment: width 16, depth 2, K = 5; dicts replace single settings."""
    config = ExperimentConfig(
        task="PointGoal1",
        algo=algo,
        model=WorldModelConfig(
            decoder=DecoderConfig(
                **{"width": 16, "depth": 2, "num_heads": 2, "context": 5}
                | (decoder or {})
            ),
            **{
                "max_timestep": 64,
                "policy_hidden": (16,),
                "head_hidden": (16,),
                "vae_hidden": (16,),
                "latent_dim": 3,
                "marginal_latent_dim": 3,
            }
            | (model or {}),
        ),
        train=TrainConfig(
            **{
                "num_steps": 12,
                "batch_rows": 3,
                "row_length": 10,
                "learning_rate": 1e-3,
                "warmup": 2,
                "chunk": 4,
                "checkpoint_every": 4,
                "held_out": 0.3,
            }
            | (train or {})
        ),
    )
    settings = {"num_first": 3, "num_second": 2, "prompt_length": 2, "horizon": 8}
    return dataclasses.replace(
        config, sas=dataclasses.replace(config.sas, **(settings | (sas or {})))
    )


def make_spec(episodes=None):
    return spec_lib.from_episodes(make_episodes() if episodes is None else episodes)


def random_params(module, *args, seed=0, **kwargs):
    """Parameters of `module.init(key, *args, **kwargs)` in numpy, so nothing compiles.

    Weights are larger than an initialisation's, biases and scales differ from 0 and 1:
    every head has something to say.
    """

    leaves, tree = jax.tree.flatten(args)
    kinds = [
        (x.shape, jax.dtypes.canonicalize_dtype(x.dtype)) if hasattr(x, "shape") else x
        for x in leaves
    ]
    shapes = _shapes(module, tree, tuple(kinds), tuple(kwargs.items()))
    rng = np.random.default_rng([5, seed])

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape)
        name = path[-1].key
        if name == "kernel":
            noise = noise / np.sqrt(leaf.shape[0])
        elif name in ("slope", "bias") and path[-2].key == "cost_head":
            noise = noise / 400.0  # its gain undone
        elif name != "embedding":
            noise = 0.1 * noise + (name == "scale")
        return noise.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.lru_cache(maxsize=256)
def _shapes(module, tree, kinds, settings):
    """Shapes of a module's parameters; kinds: of its arguments' leaves."""
    leaves = [jnp.zeros(*k) if isinstance(k, tuple) else k for k in kinds]
    args = jax.tree.unflatten(tree, leaves)

    def init(key):
        return module.init(key, *args, **dict(settings))["params"]

    return jax.eval_shape(init, jax.random.key(0))


def zero_batch(model, *, rows=1, steps=1) -> Batch:
    return Batch(
        obs=np.zeros((rows, steps + 1, model.obs_dim), np.float32),
        action=np.zeros((rows, steps, model.action_dim), np.float32),
        return_to_go=np.zeros((rows, steps + 1), np.float32),
        cost_to_go=np.zeros((rows, steps + 1), np.float32),
        cost=np.zeros((rows, steps), np.float32),
        timestep=np.zeros((rows, steps), np.int32),
        is_valid=np.ones((rows, steps), bool),
    )


def make_variables(config, spec, seed=0):
    """Random parameters and variances of the world model, in numpy."""
    model = make_model(config, spec)
    batch = zero_batch(model)
    noise = {
        "obs": np.zeros((1, 1, spec.obs_dim), np.float32),
        "transition": np.zeros((1, 1, config.model.latent_dim), np.float32),
        "marginal": np.zeros((1, 1, config.model.marginal_latent_dim), np.float32),
    }
    params = random_params(model, batch, noise, False, method="outputs", seed=seed)
    ramp = np.linspace(0.05, 0.4, spec.obs_dim, dtype=np.float32)
    return {"params": params, "variances": {"transition": ramp, "marginal": 2 * ramp}}


def make_critic(obs_dim, action_dim=2):
    """A cost critic of random weights, a level for every threshold from 0 to 80."""
    config = critic_network.CriticConfig(members=2, hidden=(8,))
    net = critic_network.network(config, obs_dim, (), ())
    members = [
        random_params(net, np.zeros((1, obs_dim)), np.zeros((1, action_dim)), seed=k)
        for k in (0, 1)
    ]
    return critic_network.Critic(
        params=jax.tree.map(lambda *x: np.stack(x), *members),
        slope=np.float32(1),
        offset=np.float32(0),
        levels=np.float32([0, 1]),
        rates=np.float32([0, 80]),
        config=config,
        obs_dim=obs_dim,
        action_dim=action_dim,
        rings=(),
        ring_scales=(),
        scaling="",
    )
