"""Real episodes step by step, with what the agent saw and did."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from sas_jax.alignment.algorithm1 import Alignment
from sas_jax.alignment.variants import VARIANTS
from sas_jax.envs.vector.env import StepBatch, VectorEnv
from sas_jax.evaluation import blocks
from sas_jax.learners import sequence
from sas_jax.studies.probe import Probe


class Recording(NamedTuple):
    """E episodes of V variants. obs `[V, E, T, O]`, action `[V, E, T, A]`; after an
    episode's end they repeat or are 0. reward, cost: `[V, E, T]`, 0 after the end.
    pose: `[V, E, T, 6]`. length: `[V, E]`. level: `[E]` E-hat as the episodes report
    it, NaN without a variant that has one. layouts: episode seed -> things.
    kept: name -> `[E, ...]`, what was kept of the alignments the episodes began with.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    pose: np.ndarray
    length: np.ndarray
    level: np.ndarray
    layouts: dict[int, dict[str, np.ndarray]]
    kept: dict[str, np.ndarray]


class _Witness:
    """A vector environment that remembers observations and actions."""

    def __init__(self, envs: VectorEnv):
        self._envs = envs
        self.num_envs, self.action_dim = envs.num_envs, envs.action_dim
        self.layout = envs.layout
        self.obs, self.actions = [], []

    def reset(self, seeds, mask=None) -> StepBatch:
        batch = self._envs.reset(seeds, mask)
        self.obs.append(batch.obs.copy())
        return batch

    def step(self, actions) -> StepBatch:
        self.actions.append(np.clip(actions, -1.0, 1.0).astype(np.float32))
        batch = self._envs.step(actions)
        self.obs.append(batch.obs.copy())
        return batch


def make_recorder(
    probe: Probe,
    variants: tuple[str, ...],
    *,
    keep: Callable[[Alignment], dict[str, jax.Array]] | None = None,
    num_workers: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Callable[[np.ndarray], Recording]:
    """Builds seeds `[E]` -> `Recording`, E at most `rollout.BLOCK`.

    The episodes are those of `evaluate` with the probe's settings. Where something is
    kept, alignments are so up to rounding, since `begin` is another program then; what
    acts is not.
    keep: Alignment of one episode -> what `Recording.kept` shall hold of it.
    """
    policy = sequence.make_policy(
        probe.loaded.config,
        probe.loaded.spec,
        variants=variants,
        keep=keep,
    )
    runner = blocks.BlockRunner(
        policy,
        probe.variables,
        num_variants=len(variants),
        cost_limits=(probe.cost_limit,),
        key=jax.random.key(probe.seed),
    )

    def record(seeds):
        count = len(seeds)
        slots = len(variants) * count
        with VectorEnv(probe.task.name, slots, num_workers=num_workers) as envs:
            witness = _Witness(envs)
            out = runner.run(witness, np.asarray(seeds), on_step)

        def rows(steps):
            steps = np.stack(steps, axis=1)
            return steps.reshape(len(variants), count, *steps.shape[1:])

        level = np.full(count, np.nan)
        for variant, values in zip(variants, out.diagnostics["level"], strict=True):
            # Others report the peak of the imagination they chose, which is not E-hat.
            if VARIANTS[variant].first == "min":
                level = np.where(np.isfinite(level), level, values)
        return Recording(
            obs=rows(witness.obs[:-1]),
            action=rows(witness.actions),
            reward=out.reward,
            cost=out.cost,
            pose=out.pose,
            length=out.length,
            level=level,
            layouts=out.layouts,
            kept={
                name.removeprefix("kept_"): values[0]
                for name, values in out.diagnostics.items()
                if name.startswith("kept_")
            },
        )

    return record
