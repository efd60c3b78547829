"""The settings of Algorithm 1."""

import dataclasses

from sas_jax.errors import UserError, nearest

DENSITIES = ("transition", "marginal")
PROMPT_PLACES = ("pinned", "beside", "sliding")


@dataclasses.dataclass(frozen=True)
class SASConfig:
    """Settings of Algorithm 1; defaults are the paper's.

    num_first, num_second: N and M, imaginations of the two loops.
    prompt_length: L in steps. energy_window: H in steps. discount: gamma of the energy.
    fragments: Algorithm 1 is run that many times, and its segments make one prompt of
      fragments x L steps.
    horizon: T in steps; 0 means the task's episode length.
    density: "transition" or "marginal" (algorithm, section 3); num_importance samples.
    prompt_place: where the prompt stands. "pinned" keeps it in sight for the whole
      episode, in the place of as many of the K steps; "beside" keeps it in sight beside
      all K steps; "sliding" puts it before the first step, and it leaves the window as
      steps come.
    decoder_noise: scale of the decoder's noise in imagination. 1 samples the Gaussian,
      whose noise is independent in every dimension and so leaves the states there are;
      0 follows its mean, and latents and actions alone make imaginations differ.
    concentrability: D of Eq. 7.
    sample_actions: act by sampling; False acts by the mean.
    realign_every: imagine again from the current history every so many steps; 0 never.
    realign_horizon: steps of those imaginations; 0 means `horizon`. Imagined steps past
      the episode's end do not count.
    track_drift: follow the real episode's own energy (`drift`).
    drift_margin: energy above the level at which its alarm is raised, in nats.
    risk_penalty: what an unlikely imagination pays where a critic chooses; see
      `risk.select_by_risk`.
    gate_actions: A, candidates of the gate, the policy's own first choice included.
    gate_level: risk above which the gate looks for another action; None sets it from
      the cost threshold, see `critic.network.gate_level`.
    """

    num_first: int = 5
    num_second: int = 5
    prompt_length: int = 5
    energy_window: int = 3
    discount: float = 0.99
    horizon: int = 0
    density: str = "transition"
    num_importance: int = 1
    prompt_place: str = "pinned"
    decoder_noise: float = 0.25
    concentrability: float = 1.0
    sample_actions: bool = True
    fragments: int = 1
    realign_every: int = 0
    realign_horizon: int = 0
    track_drift: bool = False
    drift_margin: float = 0.0
    risk_penalty: float = 1.0
    gate_actions: int = 8
    gate_level: float | None = None

    def __post_init__(self):
        for name in (
            "num_first",
            "num_second",
            "prompt_length",
            "energy_window",
            "fragments",
            "gate_actions",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"sas.{name} must be >= 1, got {getattr(self, name)}")
        for name, known in (("density", DENSITIES), ("prompt_place", PROMPT_PLACES)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"sas.{name}: unknown {getattr(self, name)!r}"
                    f"{nearest(str(getattr(self, name)), known)} "
                    f"(known: {', '.join(known)})"
                )
        if not 0.0 < self.discount <= 1.0:
            raise UserError(f"sas.discount must lie in (0, 1], got {self.discount}")
        if self.risk_penalty < 0:
            raise UserError(f"sas.risk_penalty must be >= 0, got {self.risk_penalty}")
        if self.concentrability <= 0:
            raise UserError(
                f"sas.concentrability must be > 0, got {self.concentrability}"
            )
        if self.realign_every < 0:
            raise UserError(
                f"sas.realign_every must be >= 0 (0 = never), got {self.realign_every}"
            )
        for name in ("horizon", "realign_horizon"):
            steps = getattr(self, name)
            if steps and steps < self.prompt_length:
                raise UserError(
                    f"sas.{name} {steps} must be 0 (the episode length) or at "
                    f"least prompt_length {self.prompt_length}"
                )

    @property
    def prompt_steps(self) -> int:
        """Steps of the whole prompt: fragments x L."""
        return self.fragments * self.prompt_length
