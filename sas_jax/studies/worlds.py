"""Does a prompt steer where only a prompt can tell? Data of two worlds.

In data of `collect --mixture=two_worlds` half of the episodes have reversed motors.
What is observed is the same in both worlds; only actions tell them apart, by the sign
of the thrust. A policy that does not see its own actions cannot know its world. A
prompt, whose actions it sees, tells.

So this is the positive control of every study of prompts: if a prompt of the same world
makes actions neither likelier nor better here, the way of the prompt into the policy is
broken. If it does, that way is sound, wherever else prompts change nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.alignment.sequence_model import Prompt
from sas_jax.data.episodes import Episodes
from sas_jax.envs.tasks import get_task
from sas_jax.envs.vector.env import VectorEnv
from sas_jax.errors import UserError
from sas_jax.gaussian import normal_rows, split_keys
from sas_jax.policies.teacher_forcing import Steps, replay
from sas_jax.studies.probe import Probe, data_steps
from sas_jax.types import Trajectory

KINDS = ("none", "same", "other")
_ROWS = 32  # episodes side by side: one shape, one program
_SHIFTS = {1: "", -1: "actuator:-1"}
# Correlation of force and acceleration below which an episode tells no world.
_LEAST = 0.05


class Row(NamedTuple):
    """One number: `measure` ("nll", "return" or "cost") of an episode or layout.

    world: 1, or -1 with reversed motors. prompt: of `KINDS`. episode: index among the
    held-out episodes, or the layout's seed. nll: nats a step of the recorded actions.
    """

    measure: str
    world: int
    prompt: str
    episode: int
    value: float


def worlds_of(episodes: Episodes) -> np.ndarray:
    """`[E]` 1 or -1: whether the agent moves forward when it asks for that.

    Raises:
      UserError: a task without a velocimeter, an episode that tells neither, or data of
        a single world.
    """
    groups = get_task(episodes.task).obs_groups
    if "velocimeter" not in groups:
        raise UserError(f"{episodes.task}: no velocimeter that tells its worlds apart")
    speed = episodes.observations[:, groups["velocimeter"].start]
    found = []
    for start, length in zip(episodes.offsets[:-1], episodes.lengths, strict=True):
        rows = slice(start, start + length)
        change = np.diff(speed[rows])
        with np.errstate(invalid="ignore"):  # nothing moves: NaN, found below
            both = np.corrcoef(episodes.actions[rows][:-1, 0], change)
        found.append(both[0, 1])
    found = np.array(found)
    unclear = np.flatnonzero(~(np.abs(found) >= _LEAST))
    if unclear.size:
        raise UserError(
            f"data of {episodes.task}: episode {unclear[0]} tells no world (force and "
            f"acceleration correlate by {found[unclear[0]]:.2f})"
        )
    worlds = np.where(found > 0, 1, -1)
    if np.unique(worlds).size < 2:
        raise UserError(
            f"data of {episodes.task}: all of one world; expected a recording of "
            "experiments.collect --mixture=two_worlds"
        )
    return worlds


def _segments(episodes: Episodes, chosen: np.ndarray, length: int, rng) -> Trajectory:
    """A piece of `length` steps `[B, L]` from somewhere in each episode `[B]`."""
    steps = data_steps(episodes, chosen)
    starts = rng.integers(0, np.asarray(steps.length) - length + 1)
    index = starts[:, None] + np.arange(length)

    def cut(x):
        x = np.asarray(x)
        return np.stack([row[i] for row, i in zip(x, index, strict=True)])

    zeros = np.zeros(index.shape, np.float32)
    return Trajectory(
        obs=cut(steps.obs),
        action=cut(steps.action),
        reward=zeros,
        cost=zeros,
        return_to_go=cut(steps.return_to_go),
        cost_to_go=cut(steps.cost_to_go),
        timestep=index.astype(np.int32),
        is_valid=np.ones(index.shape, bool),
    )


class _Prompts:
    """Prompts from a pool of episodes whose worlds are known."""

    def __init__(self, probe: Probe, pool: Episodes, worlds: np.ndarray):
        self._probe, self._pool = probe, pool
        self._of = {w: np.flatnonzero(worlds == w) for w in (1, -1)}
        encode = jax.vmap(probe.model.encode_prompt, in_axes=(None, 0, 0))
        self._encode = jax.jit(encode)

    def draw(self, kind: str, worlds: np.ndarray, rng) -> Prompt:
        """A prompt for each row's world `[B]`; of "none" one that is masked."""
        wanted = -worlds if kind == "other" else worlds
        chosen = np.array([rng.choice(self._of[int(w)]) for w in wanted])
        length = self._probe.config.prompt_steps
        pieces = _segments(self._pool, chosen, length, rng)
        present = np.full(len(chosen), kind != "none")
        return self._encode(self._probe.variables, pieces, present)


def likelihoods(
    probe: Probe, training: Episodes, held_out: Episodes, *, steps: int = 200
) -> list[Row]:
    """The recorded actions of held-out episodes under each kind of prompt.

    steps: from the beginning of an episode. All kinds have the window that a prompt
    leaves, the masked one too.
    """
    prompts = _Prompts(probe, training, worlds_of(training))
    worlds, rows = worlds_of(held_out), []

    @jax.jit
    def judge(variables, keys, given, prompt):
        told = replay(
            probe.model,
            variables,
            keys,
            given,
            prompt=prompt,
            window=probe.model.prompt_window,
            is_scored=False,
        )
        return -told.log_prob.mean(axis=1)

    keys = split_keys(jax.random.fold_in(probe.key, 0), _ROWS)
    for first in range(0, held_out.num_episodes, _ROWS):
        block = np.arange(first, min(first + _ROWS, held_out.num_episodes))
        fill = np.resize(block, _ROWS)
        given = data_steps(held_out, fill)
        steps = min(steps, int(given.length.min()))
        given = Steps(*(np.asarray(x)[:, :steps] for x in given[:4]), given.length)
        for kind in KINDS:
            rng = np.random.default_rng([probe.seed, first])
            prompt = prompts.draw(kind, worlds[fill], rng)
            found = np.asarray(judge(probe.variables, keys, given, prompt))
            rows += [
                Row("nll", int(worlds[e]), kind, int(e), float(x))
                for e, x in zip(block, found, strict=False)
            ]
    return rows


def drives(
    probe: Probe,
    training: Episodes,
    seeds: np.ndarray,
    *,
    num_workers: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> list[Row]:
    """Whole episodes on the layouts `seeds` `[E]` in both worlds, E at most 32.

    The same action noise under every kind of prompt; a prompt stays for an episode.
    """
    prompts, rows = _Prompts(probe, training, worlds_of(training)), []
    fill = np.resize(np.asarray(seeds), _ROWS)
    model, count = probe.model, len(seeds)

    def begin(variables, obs, keys):
        tokens = jnp.full(_ROWS, probe.target_return), jnp.full(_ROWS, probe.cost_limit)
        return model.start(variables, keys, obs, *tokens, model.prompt_window)

    def act(variables, state, prompt, obs, reward, cost, keys):
        state = state.replace(
            obs=model.standardise(obs),
            return_to_go=state.return_to_go - reward,
            cost_to_go=state.cost_to_go - cost,
        )
        observed = model.observe(variables, state, prompt)
        keys = jax.vmap(jax.random.fold_in)(keys, state.timestep)
        noise = normal_rows(keys, observed.mean.shape[1:])
        action = observed.mean + jnp.exp(observed.log_std) * noise
        action = jnp.clip(action, -1.0, 1.0)
        return action, model.commit(variables, state, observed, action, prompt)

    begin, act = jax.jit(begin), jax.jit(act, donate_argnums=1)
    keys = jax.vmap(lambda seed: jax.random.fold_in(probe.key, seed))(
        jnp.asarray(fill, jnp.uint32)
    )
    for world, shift in _SHIFTS.items():
        with VectorEnv(
            probe.task.name, _ROWS, num_workers=num_workers, shift=shift
        ) as envs:
            for kind in KINDS:
                rng = np.random.default_rng([probe.seed, 1])
                prompt = prompts.draw(kind, np.full(_ROWS, world), rng)
                batch = envs.reset(fill)
                state = begin(probe.variables, np.float32(batch.obs), keys)
                total = np.zeros((2, _ROWS))
                while not batch.is_last.all():
                    # What follows an episode's end is 0.
                    now = (np.float32(x) for x in (batch.obs, batch.reward, batch.cost))
                    action, state = act(probe.variables, state, prompt, *now, keys)
                    batch = envs.step(np.asarray(action))
                    total += batch.reward, batch.cost
                    if on_step:
                        on_step(count)
                for name, values in zip(("return", "cost"), total, strict=True):
                    rows += [
                        Row(name, world, kind, int(s), float(x))
                        for s, x in zip(seeds, values, strict=False)
                    ]
    return rows
