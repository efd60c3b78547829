"""The page about a data set: pictures, measures and warnings."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sas_jax.data import findings, quality
from sas_jax.data.episodes import Episodes
from sas_jax.envs import tasks
from sas_jax.envs.references import References
from sas_jax.files.atomic import write_text
from sas_jax.files.places import as_path
from sas_jax.report import style

_MAX_POINTS = 20_000  # steps from which the plane of states is drawn


def write_page(
    folder: str | os.PathLike,
    episodes: Episodes,
    *,
    source: str,
    reference: Episodes | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Writes ``index.md`` and its pictures into `folder`; returns the page's path.

    Args:
      folder: made if missing.
      episodes: the data.
      source: what to call them, e.g. the file's path.
      reference: data to which coverage is related.
      notes: further warnings, such as those of reading the file.
    """
    folder = as_path(folder)
    with style.styled():
        style.save_png(_return_cost(episodes), folder / "return_cost.png")
        style.save_png(_cost_over_time(episodes), folder / "cost_over_time.png")
        style.save_png(_states(episodes), folder / "states.png")
    return write_text(folder / "index.md", _text(episodes, source, reference, notes))


def _text(episodes: Episodes, source: str, reference, notes) -> str:
    task = tasks.get_task(episodes.task)
    returns, costs = episodes.returns(), episodes.cost_returns()
    lengths = episodes.lengths
    coverage = quality.state_action_coverage(episodes, reference)
    against = "the reference's cells" if reference else "one cell per step"
    ranges = task.references
    columns = ["min", "25 %", "median", "mean", "75 %", "max"]
    whose = _whose(ranges)
    ends: dict[str, tuple[float, ...]] = {"return": (), "cost": ()}
    if whose:
        columns += [f"{whose} min", f"{whose} max"]
        ends["return"] = (ranges.return_min, ranges.return_max)
        ends["cost"] = (ranges.cost_min, ranges.cost_max)
    lines = [
        f"# {episodes.task}: {episodes.num_episodes} episodes",
        "",
        f"{source}; fingerprint `{episodes.fingerprint()}`; {episodes.num_steps} "
        f"steps, {lengths.min()} to {lengths.max()} an episode; observations of size "
        f"{episodes.obs_dim}, actions of size {episodes.action_dim}; "
        f"{int(episodes.terminated.sum())} episodes end by termination.",
        "",
        "## Warnings",
        "",
        *[f"- {line}" for line in [*notes, *findings.look(episodes)] or ["none"]],
        "",
        "## Returns and costs",
        "",
        f"| per episode | {' | '.join(columns)} |",
        "|---" * (1 + len(columns)) + "|",
        _row("return", returns, ends["return"]),
        _row("cost", costs, ends["cost"]),
        "",
        "| threshold | safe episodes | best return among them |",
        "|---|---|---|",
        *[_limit_row(limit, returns, costs) for limit in task.cost_limits],
        "",
        "![Return against cost, and the costs' histogram](return_cost.png)",
        "",
        "![Cost over the steps of an episode](cost_over_time.png)",
        "",
        "## Quality and coverage",
        "",
        f"- Trajectory quality TQ = {quality.trajectory_quality(episodes):.3f}: the "
        f"mean return on {whose or 'the data'}'s scale, 0 at its smallest and 1 at its "
        "largest return.",
        f"- State-action coverage SACo = {coverage.share:.3f}: {coverage.cells} "
        f"occupied cells at {coverage.samples} steps, divided by {against}. Cells are "
        "intervals of one unit on 8 random directions of the standardised "
        "(observation, action); compare numbers of equal steps only.",
        "",
        "![Plane of the two main directions of observations](states.png)",
        "",
    ]
    return "\n".join(lines)


def _whose(ranges: References) -> str:
    """The benchmark whose ranges these are; "" where none lists the task."""
    if ranges.dsrl_stem:
        return "DSRL"
    return "" if np.isnan(ranges.return_min) else "reference"


def _row(name: str, values: np.ndarray, ends: Sequence[float]) -> str:
    quarter, median, three = np.quantile(values, [0.25, 0.5, 0.75])
    numbers = values.min(), quarter, median, values.mean(), three, values.max()
    cells = [f"{number:.1f}" for number in numbers]
    cells += ["–" if np.isnan(end) else f"{end:.1f}" for end in ends]
    return f"| {name} | {' | '.join(cells)} |"


def _limit_row(limit: float, returns: np.ndarray, costs: np.ndarray) -> str:
    safe = costs <= limit
    best = f"{returns[safe].max():.1f}" if safe.any() else "–"
    return f"| {limit:g} | {safe.sum()} ({safe.mean():.0%}) | {best} |"


def _return_cost(episodes: Episodes):
    """Return against cost, and the histogram of costs."""
    task = tasks.get_task(episodes.task)
    returns, costs = episodes.returns(), episodes.cost_returns()
    figure, axes = style.new_figure(9.0, 3.6, ncols=2)
    plane, histogram = axes[0]
    size = float(np.clip(2000 / len(costs), 4, 25))
    plane.scatter(costs, returns, s=size, color=style.BLUE, alpha=0.5, linewidths=0)
    largest, note = task.references.return_max, "dashed: thresholds"
    if whose := _whose(task.references):
        plane.axhline(largest, color=style.GREY, linewidth=1, linestyle=":")
        note = f"dotted: {whose}'s largest return; {note}"
    plane.set(xlabel="cost of an episode", ylabel="return", title="Episodes")
    style.panel_note(plane, note)
    # Bins of the whole axis: of the costs' own range they could be too narrow to see.
    edges = np.linspace(min(costs.min(), 0), max(costs.max(), *task.cost_limits), 41)
    histogram.hist(costs, bins=edges, color=style.BLUE)
    histogram.set(xlabel="cost of an episode", ylabel="episodes", title="Costs")
    for axis in (plane, histogram):
        for limit in task.cost_limits:
            axis.axvline(limit, color=style.VERMILION, linewidth=1, linestyle="--")
    return figure


def _cost_over_time(episodes: Episodes):
    """Mean cost per step, and quantiles of the cost so far."""
    longest = int(episodes.lengths.max())
    table = np.full((episodes.num_episodes, longest), np.nan, np.float32)
    step = np.arange(episodes.num_steps) - np.repeat(
        episodes.offsets[:-1], episodes.lengths
    )
    episode = np.repeat(np.arange(episodes.num_episodes), episodes.lengths)
    table[episode, step] = episodes.costs
    figure, axes = style.new_figure(9.0, 3.2, ncols=2)
    rate, total = axes[0]
    window = max(1, longest // 50)
    edges = np.arange(0, longest - window + 1, window)
    means = [np.nanmean(table[:, start : start + window]) for start in edges]
    rate.plot(edges + window / 2, means, color=style.BLUE)
    rate.set(xlabel="step", ylabel="mean cost per step", title="When cost arises")
    rate.set_ylim(bottom=0)
    style.panel_note(rate, f"means over {window} steps")
    so_far = np.nancumsum(table, axis=1)
    so_far[np.isnan(table)] = np.nan
    steps = np.arange(1, longest + 1)
    for quantile, color in ((0.9, style.SKY), (0.5, style.BLUE), (0.1, style.BLACK)):
        values = np.nanquantile(so_far, quantile, axis=0)
        total.plot(steps, values, color=color, label=f"{quantile:.0%}")
    total.set(xlabel="step", ylabel="cost so far", title="Quantiles over episodes")
    total.legend()
    return figure


def _states(episodes: Episodes):
    """Where observations lie in the plane of their two main directions."""
    rng = np.random.default_rng(0)
    count = min(_MAX_POINTS, episodes.num_steps)
    rows = np.sort(rng.choice(episodes.num_steps, count, replace=False))
    states = episodes.observations[rows].astype(np.float64)
    scale = states.std(0)
    states = (states - states.mean(0)) / np.where(scale > 1e-6, scale, 1.0)
    _, values, directions = np.linalg.svd(states, full_matrices=False)
    plane = states @ directions[:2].T
    share = (values**2 / max((values**2).sum(), 1e-12))[:2].sum()
    figure, axes = style.new_figure(9.0, 3.8, ncols=2)
    visits, costs = axes[0]
    if plane.shape[1] < 2:  # a single observation column
        plane = np.concatenate([plane, np.zeros_like(plane)], axis=1)
    x, y = plane.T
    drawn = visits.hexbin(x, y, gridsize=40, bins="log", cmap="Blues", mincnt=1)
    figure.colorbar(drawn, ax=visits, label="steps")
    visits.set(title="Where steps are")
    style.panel_note(visits, f"{share:.0%} of the variance")
    drawn = costs.hexbin(
        x, y, C=episodes.costs[rows], gridsize=40, cmap="Reds", mincnt=4
    )
    figure.colorbar(drawn, ax=costs, label="mean cost")
    costs.set(title="Where cost arises")
    for axis in (visits, costs):
        axis.set(xlabel="first main direction", ylabel="second")
    return figure
