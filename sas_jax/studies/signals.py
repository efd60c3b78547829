"""What Algorithm 1's own signals know, measured layout by layout on a checkpoint.

The questions and their statistics are in `report.signal_report`; here are the numbers
they are made of. First the episodes of `evaluate` are run, `BLOCK` at a time, and what
their alignments saw is kept; then line 14's candidates are imagined again, a few
layouts at a time.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax.evaluation.blocks import BLOCK
from sas_jax.files.parts import in_parts
from sas_jax.gaussian import split_keys
from sas_jax.progress import SILENT, Progress
from sas_jax.report.signal_report import EPISODES, PROMPTS
from sas_jax.studies.loop_facts import make_keep, make_scores, unpack
from sas_jax.studies.probe import Probe
from sas_jax.studies.prompt_shifts import make_shifts, steps_of
from sas_jax.studies.recording import make_recorder

LAYOUTS = 4  # whose candidates are imagined again at a time: one shape, one program
FIRST_STEPS = 100  # of an episode, whose cost is looked at by itself


def make_measure(
    probe: Probe,
    *,
    num_workers: int | None = None,
    progress: Progress = SILENT,
) -> Callable[[np.ndarray, int], dict[str, np.ndarray]]:
    """Builds the measurement of one part for `parts.in_parts`, `BLOCK` layouts at most.

    Besides the arrays of `loop_facts.make_keep`, for V of `EPISODES` and P of
    `PROMPTS`:
      obs `[O]`: the first observation. cost `[V]`, cost_start `[V]`: realised, of the
        whole episode and of its first `FIRST_STEPS`. shift, scale `[P, T]`: see
        `shifts.make_shifts`, along the episode of `none`, NaN after its end.
      level_acted: E-hat as the episodes report it.
    """
    imagined = probe.horizon * (probe.config.num_first + probe.config.num_second)
    waiting = 0  # layouts that are being aligned

    def on_step(count):
        """A part's first step of acting says that its alignments are done."""
        nonlocal waiting
        progress.done(imagined * waiting + count)
        if waiting:
            progress.stage("acting")
        waiting = 0

    record = make_recorder(
        probe, EPISODES, keep=make_keep(probe), num_workers=num_workers, on_step=on_step
    )
    encode = jax.vmap(jax.vmap(probe.model.encode_prompt, (None, 0, 0)), (None, 0, 0))
    shifts_of = make_shifts(probe)

    @jax.jit
    def shifts(variables, keys, steps, segments, found):
        return shifts_of(variables, keys, steps, encode(variables, segments, found))

    longest = probe.loaded.spec.max_timestep
    with_prompt = np.array([EPISODES.index(variant) for variant in PROMPTS])

    def measure(seeds, count):
        nonlocal waiting
        waiting = count
        progress.stage(f"aligning layouts {seeds[0]} to {seeds[count - 1]}")
        run = record(seeds[:count])
        rows = np.minimum(np.arange(len(seeds)), count - 1)
        found = {name: values[rows] for name, values in run.kept.items()}
        progress.stage("replaying")
        steps = steps_of(probe, run, EPISODES.index("none"), rows)
        # Of the variants that have a prompt: `[P, E, L, ...]`, and whether it is there.
        segments = {
            name: np.moveaxis(values[:, with_prompt], 1, 0)
            for name, values in found.items()
            if name.startswith("prompt_")
        }
        shift, scale = shifts(
            probe.variables,
            split_keys(probe.key, len(rows)),
            steps,
            unpack("prompt", segments),
            segments["prompt_ok"],
        )
        progress.done(longest * (len(PROMPTS) + 1) * count)
        inside = np.arange(longest)[None, :] < steps.length[:, None]
        inside = segments["prompt_ok"][..., None] & inside
        shift = np.where(inside, shift, np.nan).astype(np.float32)
        scale = np.where(inside, scale, np.nan).astype(np.float32)
        costs = np.moveaxis(run.cost[:, rows], 0, 1)
        return found | {
            "obs": run.obs[0, rows, 0],
            "cost": costs.sum(axis=-1),
            "cost_start": costs[..., :FIRST_STEPS].sum(axis=-1),
            "shift": np.moveaxis(shift, 0, 1),
            "scale": np.moveaxis(scale, 0, 1),
            "level_acted": run.level[rows],
        }

    return measure


def study(
    probe: Probe,
    seeds: np.ndarray,
    *,
    repeats: int = 8,
    folder: str | Path,
    num_workers: int | None = None,
    progress: Progress = SILENT,
) -> dict[str, np.ndarray]:
    """All arrays of the layouts `seeds` `[E]`, leading axis E.

    Those of `make_measure`, and repeated `[M, repeats]`: see `loop_facts.make_scores`.

    Args:
      folder: keeps finished parts. progress: told of every step.
    """
    config, horizon = probe.config, probe.horizon
    episode = (
        horizon * (config.num_first + config.num_second)
        + (len(EPISODES) + len(PROMPTS) + 1) * probe.loaded.spec.max_timestep
    )
    again = horizon * config.num_second * repeats
    progress.expect(len(seeds) * (episode + again))
    settings = probe.settings() | {"what": "signals"}
    measure = make_measure(probe, num_workers=num_workers, progress=progress)
    arrays = in_parts(
        folder,
        settings,
        seeds,
        BLOCK,
        measure,
        on_done=lambda count, is_new: (
            None if is_new else progress.skip(count * episode)
        ),
    )
    scores = jax.jit(make_scores(probe, repeats))
    row_of = {int(seed): row for row, seed in enumerate(seeds)}

    def measure_again(filled, count):
        progress.stage(f"candidates again, layouts {filled[0]} to {filled[count - 1]}")
        rows = np.array([row_of[int(seed)] for seed in filled])
        own = {name: values[rows] for name, values in arrays.items()}
        repeated = scores(
            probe.variables,
            jnp.asarray(filled, jnp.uint32),
            own["obs"],
            own["level"],
            unpack("candidate", own),
            own["candidate_ok"],
        )
        return {"repeated": np.asarray(repeated)}

    def on_again(count, is_new):
        (progress.done if is_new else progress.skip)(count * again)

    settings |= {"what": "signals, again", "repeats": repeats}
    return arrays | in_parts(
        folder, settings, seeds, LAYOUTS, measure_again, on_done=on_again
    )
