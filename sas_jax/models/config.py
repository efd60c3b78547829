"""Sizes and loss weights of the world model."""

import dataclasses

from sas_jax.config import Many, Number, check
from sas_jax.models.transformer import DecoderConfig


@dataclasses.dataclass(frozen=True)
class WorldModelConfig:
    """Sizes and loss weights of the world model; sizes default to the paper's DT.

    action_history: False blanks the action tokens of a row's own steps; those of a
      prompt keep their actions. Where actions repeat, a policy that
      sees its last one copies it instead of looking at the state (copycat; de Haan et
      al. 2019), and gets its own mistakes back. The predictions read the action of
      their step in either case.
    policy_history: False keeps the hidden state from the policy, which then knows the
      present state and its targets only; prompts do not reach it either.
    policy_blind: groups of observations (names of `Task.obs_groups`) that neither the
      tokens nor the policy see; predictions read them all the same. An accelerometer
      and a gyro show the last action, so that without them there is less to copy.
    max_timestep: rows of the learned time-step embedding (longest episode).
    latent_dim, marginal_latent_dim: of the transition's VAE and of the states' own.
    decoder_floor: smallest decoder standard deviation, in units of the state's own: the
      resolution at which densities are taken.
    self_noise: half of the training rows carry errors as the model itself makes them,
      of one step, of which a share drawn from [0, self_noise] carries over to the next
      (`own_errors`); the target stays the true next state, so that the model learns to
      return to the data. 0 turns it off.
    censored_actions: the policy's likelihood of an action at a bound is the probability
      of all that is clipped to it, not the Gaussian's density there (a censored or
      Tobit likelihood; Tobin 1958). For the loss and wherever actions are scored.
    free_bits: nats per latent that cost nothing, which keeps latents in use.
    *_weight: weights of the loss terms beside the action term's 1.
    """

    decoder: DecoderConfig = dataclasses.field(default_factory=DecoderConfig)
    action_history: bool = True
    policy_history: bool = True
    policy_blind: tuple[str, ...] = ()
    max_timestep: int = 1000
    policy_hidden: tuple[int, ...] = (128,)
    head_hidden: tuple[int, ...] = (128,)
    vae_hidden: tuple[int, ...] = (400, 400)
    latent_dim: int = 32
    marginal_latent_dim: int = 32
    decoder_floor: float = 0.01
    self_noise: float = 0.9
    free_bits: float = 0.02
    censored_actions: bool = False
    state_weight: float = 1.0
    marginal_weight: float = 1.0
    return_weight: float = 1.0
    cost_weight: float = 1.0

    def __post_init__(self):
        count, weight = Number(least=1, whole=True), Number(least=0)
        check(
            self,
            "model",
            {
                "latent_dim": count,
                "marginal_latent_dim": count,
                "max_timestep": count,
                "policy_hidden": Many(count),
                "head_hidden": Many(count),
                "vae_hidden": Many(count),
                "decoder_floor": Number(above=0),
                "self_noise": Number(least=0, most=1),
                "free_bits": weight,
                "state_weight": weight,
                "marginal_weight": weight,
                "return_weight": weight,
                "cost_weight": weight,
            },
        )
