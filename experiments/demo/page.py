"""The demo's pictures and its page."""

import dataclasses
import resource
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.demo import stages
from sas_jax.alignment.variants import VARIANTS
from sas_jax.checkpoint import Checkpoint
from sas_jax.data.episodes import Episodes
from sas_jax.envs.tasks import get_task
from sas_jax.evaluation import watching
from sas_jax.evaluation.evaluate import Evaluation, EvaluationConfig, Paths
from sas_jax.report import clip, figures, html, imagined_paths, page
from sas_jax.report.scene import EpisodePath


@dataclasses.dataclass
class Clock:
    """Wall time of the stages, in seconds."""

    started: float = dataclasses.field(default_factory=time.monotonic)
    laps: dict[str, float] = dataclasses.field(default_factory=dict)

    def lap(self, name: str) -> None:
        """Ends the stage `name`."""
        now = time.monotonic()
        self.laps[name], self.started = now - self.started, now


def peak_memory() -> str:
    """Largest resident size of this process so far; environment workers not counted."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{own:.2f} GiB (without the environment workers)"


def telling_layouts(run: Evaluation, left: str, right: str) -> dict[str, int]:
    """Seeds of the layouts to show, by the cost of `left` minus that of `right`.

    "median" is what pictures argue with: neither the best nor the worst should. Those
    are shown as what they are.
    """
    paths = run.paths
    cost = {
        (variant, int(seed)): float(path.sum())
        for variant, seed, path in zip(
            paths.variant, paths.episode_seed, paths.cost, strict=True
        )
    }
    seeds = sorted({int(s) for s in paths.episode_seed})
    difference = [cost[left, s] - cost[right, s] for s in seeds]
    order = np.argsort(difference, kind="stable")
    places = {"median": len(seeds) // 2, "best": -1, "worst": 0}
    return {name: seeds[int(order[place])] for name, place in places.items()}


def shown_variant(variants: tuple[str, ...]) -> str:
    """What the pictures show beside the first variant: plans, else SAS."""
    told = ("plan_recall", "plan", "sas")
    return next((v for v in told if v in variants), variants[-1])


def watched_path(
    loaded: Checkpoint, evaluation: EvaluationConfig, variant: str, seed: int
) -> EpisodePath:
    """The episode once more, with what was imagined on the way."""
    watched = watching.watch(
        loaded,
        variant,
        seed,
        cost_limit=evaluation.cost_limits[0],
        seed=evaluation.seed,
        train_seed=evaluation.train_seed,
    )
    return imagined_paths.episode_path(watched, get_task(loaded.config.task))


def episode_path(paths: Paths, variant: str, seed: int) -> EpisodePath:
    """One episode, cut to its own length."""
    row = next(
        i
        for i, (v, s) in enumerate(zip(paths.variant, paths.episode_seed, strict=True))
        if v == variant and int(s) == seed
    )
    length = int(paths.length[row])
    return EpisodePath(
        pose=paths.pose[row, :length],
        costs=paths.cost[row, :length],
        rewards=paths.reward[row, :length],
    )


def _draw(folder, loaded, evaluation, run, episodes) -> tuple[list, dict[str, str]]:
    """All pictures as (path, caption), and facts of the alignment shown."""
    task = loaded.config.task
    drawn, facts = [], {}
    left, right = evaluation.variants[0], shown_variant(evaluation.variants)
    seeds = telling_layouts(run, left, right)
    seed = seeds["median"]
    shown = {v: episode_path(run.paths, v, seed) for v in dict.fromkeys([left, right])}
    layout, alone = run.paths.layouts[seed], ""
    if VARIANTS[right].plan is not None:
        shown[right] = watched_path(loaded, evaluation, right, seed)
        alone = f" {right} was played again by itself: its cost is not the table's."
    jobs = [
        (
            "Return against cost: the data's episodes, and every episode evaluated.",
            lambda: figures.return_cost_figure(
                folder / "return_cost.png",
                run.results,
                dataset_returns=episodes.returns(),
                dataset_costs=episodes.cost_returns(),
                title=f"{task}, {loaded.config.algo}",
            ),
        ),
        (
            f"Layout {seed} from above: the median of all {len(run.paths.layouts)} "
            f"layouts by the cost of {left} minus that of {right}.{alone}",
            lambda: figures.map_figure(
                folder / "map.png", layout=layout, paths=shown, title=f"layout {seed}"
            ),
        ),
        (
            f"The same episodes of layout {seed}, moving.",
            lambda: clip.write_clip(
                folder / "episode.gif", layout=layout, paths=shown, title=task
            ),
        ),
        (
            "Training: loss terms, and on held-out episodes (val).",
            lambda: figures.training_figure(
                folder / "training.png", folder / "model" / "metrics.csv"
            ),
        ),
        (
            "The world-model card, on held-out episodes.",
            lambda: figures.card_figure(folder / "card.png", loaded.card),
        ),
    ]
    for name in ("best", "worst"):
        if left == right or seeds[name] == seed:
            continue

        def draw(name=name, extreme=seeds[name]):
            return clip.write_clip(
                folder / f"episode_{name}.gif",
                layout=run.paths.layouts[extreme],
                paths={v: episode_path(run.paths, v, extreme) for v in (left, right)},
                title=f"{task}, {name} layout for {right}",
            )

        jobs.append((f"Layout {seeds[name]}, the {name} for {right} by cost.", draw))
    if "sas" in evaluation.variants:
        row = list(run.paths.episode_seed).index(seed)
        found = stages.align_one(loaded, evaluation, seed, run.paths.first_obs[row])
        facts["alignment of one episode"] = (
            f"{found.seconds:.2f} s once compiled ({len(found.energies_first)} + "
            f"{len(found.energies_second)} imaginations of "
            f"{found.energies_first.shape[1]} steps)"
        )
        jobs.append(_energies(folder, seed, found))
    for caption, draw in tqdm(jobs, desc="[4/4] report", unit="picture"):
        drawn.append((draw(), caption))
    return drawn, facts


def _energies(folder: Path, seed: int, found):
    """Caption and job of the picture of one alignment."""
    caption = (
        f"Algorithm 1 on layout {seed}: energy along all imaginations, the chosen one, "
        "and the segment that became the prompt."
    )

    def draw():
        return figures.energy_figure(
            folder / "energy.png",
            energies_first=found.energies_first,
            energies_second=found.energies_second,
            chosen_first=found.chosen_first,
            chosen_second=found.chosen_second,
            segment_first=found.segment_first,
            segment_second=found.segment_second,
            level=found.level,
        )

    return caption, draw


def write(
    folder: Path,
    *,
    command: str,
    loaded: Checkpoint,
    evaluation: EvaluationConfig,
    run: Evaluation,
    episodes: Episodes,
    clock: Clock,
) -> Path:
    """Draws the pictures, writes report.md and returns its path."""
    drawn, facts = _draw(folder, loaded, evaluation, run, episodes)
    clock.lap("report")
    config = loaded.config
    decoder, train, sas = config.model.decoder, config.train, config.sas
    returns, costs = episodes.returns(), episodes.cost_returns()
    seconds = [r.align_seconds for r in run.results if np.isfinite(r.align_seconds)]
    facts = {
        "data": f"{episodes.num_episodes} scripted episodes, return "
        f"{returns.mean():.1f} ± {returns.std():.1f}, cost {costs.mean():.1f} ± "
        f"{costs.std():.1f} (mean ± sd), fingerprint {episodes.fingerprint()}",
        "model": f"{config.algo}, width {decoder.width}, {decoder.depth} blocks, "
        f"context {decoder.context}; {train.num_steps} steps of {train.batch_rows} "
        f"rows x {train.row_length}",
        "SAS": f"N = {sas.num_first}, M = {sas.num_second}, L = {sas.prompt_length}, "
        f"energy window {sas.energy_window}, {sas.density} density, "
        f"prompt {sas.prompt_place}, "
        f"target return {loaded.spec.target_return:.1f}",
        "evaluation": f"{evaluation.num_episodes} layouts x "
        f"{', '.join(evaluation.variants)}, the same layouts and action noise",
        "wall time": ", ".join(f"{k} {v:.0f} s" for k, v in clock.laps.items()),
        "peak memory": peak_memory(),
        **facts,
    }
    if seconds:
        facts["alignment, batched"] = f"{np.median(seconds):.2f} s per prompt"
    sections = {
        "title": f"SAS on {config.task}",
        "summary": "Made by one command. Every variant ran on the same layouts; "
        "intervals are 95 % bootstrap over layouts.",
        "command": command,
        "facts": facts,
        "seeds": {
            "training": str(train.seed),
            "agents": str(evaluation.seed),
            "layouts": f"{evaluation.first_seed} to "
            f"{evaluation.first_seed + evaluation.num_episodes - 1}",
        },
        "results": run.results,
        "card": loaded.card,
        "figures": [(str(path), caption) for path, caption in drawn],
        "notes": [
            "A policy without cost tokens acts the same under every threshold: its "
            "episodes are run once and judged at each.",
        ],
    }
    written = page.write_report(folder / "report.md", sections)
    html.write_html(written, folder / "report.html")
    return written
