"""The settings of Algorithm 1."""

import dataclasses

from sas_jax.config import Choice, Number, check
from sas_jax.errors import UserError

DENSITIES = ("transition", "marginal")
PROMPT_PLACES = ("pinned", "beside", "sliding")


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """Settings of acting on imagination (`plan`); the defaults are measured.

    num_candidates: N. horizon: T in steps, within which the model must be right (see
      the card's cost correlations). execute: steps of the chosen candidate that are
      executed before the next plan; at most T.
    persistence: rho, the part of a candidate's action noise that is one draw for all of
      its steps; 0 draws every step anew. action_scale: of that noise, in units of the
      policy's own standard deviation. push_steps: how long every other push lasts; then
      the candidate does as the policy would. 0 means to the end, for all.
    num_reference: candidates without a push, the policy's mean the first of them; what
      the policy itself would cost is their mean.
    slack: of the budget's share in `plan` (rule `budget`). cost_weight: w, return that
      a unit of predicted cost takes; in `plan` of what exceeds the budget's share.
    margin: the Lyapunov condition, nats by which a candidate's energy may exceed that
      of the references; None lifts it, which costs least (docs/results/plan.md).
      num_importance: samples of that density.
    tolerance: predicted cost that counts as none. Where the policy itself would cost no
      more than that beyond the budget's share, it acts until the next plan. None
      executes every plan. least_saving: share of the policy's own predicted cost that a
      plan must save to be executed.
    world_noise: scale of the world's own noise, the same for all candidates.
    max_error, error_memory: where the running error over whole plans exceeds so many
      times what moved, the policy acts by itself until the episode ends.
    """

    num_candidates: int = 16
    horizon: int = 50
    execute: int = 10
    persistence: float = 0.9
    action_scale: float = 2.0
    push_steps: int = 15
    num_reference: int = 4
    slack: float = 1.0
    cost_weight: float = 3.0
    margin: float | None = None
    num_importance: int = 4
    tolerance: float | None = 0.1
    least_saving: float = 0.1
    world_noise: float = 0.0
    max_error: float = 0.5
    error_memory: float = 0.95

    def __post_init__(self) -> None:
        count = Number(least=1, whole=True)
        rules = {
            "num_candidates": count,
            "horizon": count,
            "execute": count,
            "num_reference": count,
            "num_importance": count,
            "persistence": Number(least=0, most=1),
            "action_scale": Number(least=0),
            "push_steps": Number(least=0, whole=True),
            "slack": Number(least=0),
            "cost_weight": Number(least=0),
            "margin": Number(optional=True),
            "tolerance": Number(least=0, optional=True),
            "least_saving": Number(least=0, most=1),
            "world_noise": Number(least=0),
            "max_error": Number(above=0, most=1),
            "error_memory": Number(least=0, most=1),
        }
        check(self, "sas.plan", rules)
        if self.execute > self.horizon:
            raise UserError(
                f"sas.plan.execute {self.execute}: expected at most sas.plan.horizon "
                f"{self.horizon}, the steps that are imagined"
            )
        if self.num_reference >= self.num_candidates:
            raise UserError(
                f"sas.plan.num_reference {self.num_reference}: expected less than "
                f"sas.plan.num_candidates {self.num_candidates}"
            )


@dataclasses.dataclass(frozen=True)
class SASConfig:
    """Settings of Algorithm 1; defaults are the paper's.

    num_first, num_second: N and M, imaginations of the two loops.
    prompt_length: L in steps. energy_window: in steps. discount: of the energy.
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
      `rules.least_risk`.
    gate_actions: A, candidates of the gate, the policy's own first choice included.
    gate_level: risk above which the gate looks for another action; None sets it from
      the cost threshold, see `critic.network.gate_level`.
    plan: settings of acting on imagination.
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
    plan: PlanConfig = dataclasses.field(default_factory=PlanConfig)

    def __post_init__(self) -> None:
        count = Number(least=1, whole=True)
        steps = Number(least=0, whole=True)
        rules = {
            "num_first": count,
            "num_second": count,
            "prompt_length": count,
            "energy_window": count,
            "fragments": count,
            "gate_actions": count,
            "num_importance": count,
            "horizon": steps,
            "realign_every": steps,
            "realign_horizon": steps,
            "discount": Number(above=0, most=1),
            "density": Choice(DENSITIES),
            "prompt_place": Choice(PROMPT_PLACES),
            "decoder_noise": Number(least=0),
            "concentrability": Number(above=0),
            "drift_margin": Number(),
            "risk_penalty": Number(least=0),
            "gate_level": Number(optional=True),
        }
        check(self, "sas", rules)
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
