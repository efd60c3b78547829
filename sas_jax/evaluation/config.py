"""What an evaluation runs."""

import dataclasses

from sas_jax.config import SEEDS, Choice, Number, check
from sas_jax.envs import shift as shifts
from sas_jax.errors import UserError
from sas_jax.evaluation.targets import check_cost_limits, check_target_returns


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What to run.

    variants: names that the algorithm has. cost_limits: thresholds kappa >= 0.
    target_return: return token at the start; None means the checkpoint's.
    num_episodes: layouts per variant, seeds first_seed, first_seed + 1, ...
    seed: base of every random draw of the agents. train_seed: index of the checkpoint's
      training seed. num_workers: environment processes; None means one a core.
    engine, cluster: where those are, see `VectorEnv`; rows are the same.
    shift: a changed world to run in, such as ``"actuator:0.8,delay:1"``, on the same
      layouts; see `envs.shift`. Noise is a share of the training data's deviations.
    """

    variants: tuple[str, ...] = ("none", "rand", "sas")
    cost_limits: tuple[float, ...] = (20.0, 40.0, 80.0)
    target_return: float | None = None
    num_episodes: int = 20
    first_seed: int = 1_000_000
    seed: int = 0
    train_seed: int = 0
    num_workers: int | None = None
    devices: int = 1
    engine: str = "local"
    cluster: str = ""
    shift: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.variants, str) or not self.variants:
            raise UserError(
                f"variants: {self.variants!r}; expected a tuple of at least one name"
            )
        if len(set(self.variants)) != len(self.variants):
            raise UserError(f"variants: {','.join(self.variants)} names one twice")
        check_cost_limits(self.cost_limits)
        shifts.parse(self.shift)
        if self.target_return is not None:
            check_target_returns((self.target_return,))
        seed = Number(least=0, below=SEEDS, whole=True)
        rules = {
            "num_episodes": Number(least=1, whole=True),
            "num_workers": Number(least=1, whole=True, optional=True),
            "devices": Number(least=0, whole=True),
            "engine": Choice(("local", "ray")),
            "first_seed": seed,
            "seed": seed,
            "train_seed": Number(least=0, whole=True),
        }
        check(self, "", rules)
        if self.first_seed + self.num_episodes > SEEDS:
            raise UserError(
                f"first_seed {self.first_seed}: expected {self.num_episodes} seeds "
                "below 2**32"
            )
