"""Figures and the clip: they exist, are small, and refuse what they cannot draw."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageColor

from sas_jax.alignment.variants import VARIANTS
from sas_jax.errors import UserError
from sas_jax.report import clip, figures, scene, style
from sas_jax.report import training_figure as training_figure_module
from sas_jax.report.scene import EpisodePath
from tests.helpers import report_samples as samples


def check_png(path, least_width=400):
    """A readable PNG under 150 kB that is not blank; returns its pixels."""
    assert path.stat().st_size < 150_000
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width >= least_width
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels == 255).all(axis=-1).mean() > 0.3  # light background
    assert pixels.std() > 5
    return pixels


def has_color(pixels, color, least=20, within=6):
    """Whether a colour covers some pixels, up to compression and antialiasing."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return (np.abs(pixels.astype(int) - rgb).max(axis=-1) <= within).sum() >= least


def test_energy_figure_of_both_loops(tmp_path):
    first, second = samples.energies(5, 300), samples.energies(5, 300, seed=1)
    path = figures.energy_figure(
        tmp_path / "a" / "energy.png",
        energies_first=first,
        energies_second=second,
        chosen_first=int(first.max(axis=1).argmin()),
        chosen_second=2,
        level=first.max(axis=1).min(),
        segment_first=(40, 45),
        segment_second=(200, 205),
        title="PointGoal1",
    )
    pixels = check_png(path)
    assert has_color(pixels, style.BLUE)
    assert has_color(pixels, style.VERMILION, within=60)  # a thin dashed line


def test_energy_figure_survives_non_finite_and_huge_energies(tmp_path):
    energies = samples.energies(4, 60)
    energies[1, 30:] = np.inf
    energies[2, 10] = np.nan
    energies[3, 40:] = 1e9
    path = figures.energy_figure(
        tmp_path / "energy.png", energies_first=energies, chosen_first=0, level=-50.0
    )
    assert has_color(check_png(path), style.BLUE)


def test_energy_axis_ignores_what_blew_up():
    calm = samples.energies(4, 60)
    wild = np.append(calm, [1e9, np.inf, np.nan])
    low, high = figures._energy_range(wild, np.array([-20.0]))
    assert low < calm.min() and calm.max() < high < 0
    # What must be seen is, however far off.
    assert figures._energy_range(wild, np.array([500.0]))[1] > 500
    low, high = figures._energy_range(np.array([np.nan]), np.array([np.nan]))
    assert low < high


def test_return_cost_figure_with_dataset(tmp_path):
    rows = samples.results_of({"none": (0, 1), "rand": (-2, 1), "sas": (-2, 1)})
    rng = np.random.default_rng(0)
    path = figures.return_cost_figure(
        tmp_path / "rc.png",
        rows,
        dataset_returns=rng.normal(16, 5, 2000),
        dataset_costs=rng.gamma(1, 50, 2000),
        title="PointGoal1, dt",
    )
    pixels = check_png(path)
    for color in (style.BLACK, style.ORANGE, style.BLUE, style.LIGHT_GREY):
        assert has_color(pixels, color)


def test_means_per_threshold_only_where_episodes_differ():
    blind = samples.results_of({"sas": (0, 1)})
    assert len(figures._means_per_limit(blind)) == 1
    obedient = samples.results_of({"sas": (0, 1)}, obeys=True)
    means = figures._means_per_limit(obedient)
    assert len(means) == 3 and len({marker for marker, *_ in means}) == 3
    costs = [r.cost for r in obedient if r.cost_limit == 40]
    assert means[1][1].mean == pytest.approx(np.mean(costs))


def test_return_cost_figure_of_one_episode(tmp_path):
    path = figures.return_cost_figure(tmp_path / "one.png", [samples.make_row()])
    check_png(path)
    with pytest.raises(UserError, match="no result rows"):
        figures.return_cost_figure(tmp_path / "none.png", [])
    assert [p.name for p in tmp_path.iterdir()] == ["one.png"]


def test_map_of_two_paths(tmp_path):
    episodes = {"none": samples.episode(0), "sas": samples.episode(1)}
    path = figures.map_figure(
        tmp_path / "map.png", layout=samples.layout(), paths=episodes, title="PG1"
    )
    pixels = check_png(path)
    assert has_color(pixels, style.BLUE)
    assert has_color(pixels, "#BBDDF5", least=2000)  # hazards


@pytest.mark.slow
def test_map_and_clip_show_what_was_imagined(tmp_path):
    """Plans add their colours; one in hand is drawn until the next one is made."""
    bare = samples.episode(0)
    rng = np.random.default_rng(0)
    fans = tuple(
        scene.Fan(
            step,
            bare.pose[step, :2] + np.cumsum(rng.normal(0, 0.05, (4, 20, 2)), axis=1),
            np.array([True, True, False, True]),
            chosen,
        )
        for step, chosen in ((0, 1), (300, -1))
    )
    planned = dataclasses.replace(bare, fans=fans)
    assert planned.fan_at(299) is fans[0] and planned.fan_at(300) is fans[1]
    assert bare.fan_at(5) is None
    for name, write in (("m.png", figures.map_figure), ("c.gif", clip.write_clip)):
        with_plans, without = (
            write(tmp_path / f"{i}{name}", layout=samples.layout(), paths={"plan": x})
            for i, x in enumerate((planned, bare))
        )
        first, second = (
            np.asarray(Image.open(path).convert("RGB"), float)
            for path in (with_plans, without)
        )
        # The legend has names for them, so that the map's size may differ.
        assert first.shape != second.shape or np.abs(first - second).max() > 30


def test_map_of_every_kind_of_object_and_no_goal(tmp_path):
    pose = samples.episode(0, steps=200).pose.copy()
    pose[:, 3:5] = np.nan
    episode = scene.EpisodePath(pose, np.zeros(200))
    rng = np.random.default_rng(2)
    layout = {
        name: np.column_stack([rng.uniform(-2, 2, (3, 2)), np.full(3, 0.1)])
        for name in ("hazards", "buttons", "gremlins", "pillars", "push_box", "fruit")
    }
    layout["circle"] = np.array([[0.0, 0.0, 1.5]])
    layout["sigwalls"] = np.array([[1.125, 0.0, 3.5], [0.0, -1.125, 3.5]])
    layout["vases"] = np.empty((0, 3))
    kinds = [name for name, *_ in scene.objects(layout)]
    assert "vases" not in kinds and kinds[-1] == "fruit" and len(kinds) == 8
    check_png(
        figures.map_figure(tmp_path / "m.png", layout=layout, paths={"x": episode})
    )


def test_goals_are_counted_when_they_move():
    pose = np.zeros((6, 6))
    pose[:, 3:5] = [[1, 0], [1, 0], [1, 1], [1, 1], [1, 0], [np.nan, np.nan]]
    goals = scene.EpisodePath(pose, np.zeros(6)).goals()
    np.testing.assert_array_equal(goals, [[1, 0], [1, 1], [1, 0]])


def test_walls_stand_across_their_direction():
    ends = scene.wall_ends(np.array([1.125, 0.0, 3.5]))
    np.testing.assert_allclose(ends, [[1.125, -3.5], [1.125, 3.5]])


def test_a_runaway_agent_does_not_shrink_the_map():
    pose = np.zeros((10, 6))
    pose[:, 0] = np.linspace(0, 500, 10)
    episode = scene.EpisodePath(pose, np.zeros(10))
    left, right, bottom, top = scene.view(samples.layout(), {"none": episode})
    assert right - left == pytest.approx(top - bottom)
    assert 5 < right - left < 10  # the layout alone spans about 3.5 m


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: scene.EpisodePath(np.zeros((4, 5)), np.zeros(4)),
            r"expected \[T, 6\]",
        ),
        (
            lambda: scene.EpisodePath(np.zeros((0, 6)), np.zeros(0)),
            r"expected \[T, 6\]",
        ),
        (lambda: scene.EpisodePath(np.zeros((4, 6)), np.zeros(3)), r"costs have shape"),
        (
            lambda: scene.EpisodePath(np.full((4, 6), np.nan), np.zeros(4)),
            "not finite",
        ),
        (lambda: scene.objects({"hazards": np.zeros((3, 2))}), "layout 'hazards'"),
    ],
)
def test_bad_scenes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.slow
def test_card_with_and_without_parts(tmp_path):
    check_png(figures.card_figure(tmp_path / "card.png", samples.card()))
    card = {"spread": samples.card()["spread"]}
    check_png(figures.card_figure(tmp_path / "spread.png", card))
    card = samples.card()
    card["log_density"]["imagined_mean"] = np.full(100, -5000.0)
    check_png(figures.card_figure(tmp_path / "far.png", card))
    with pytest.raises(UserError, match="has no log_density, spread, cost, pit"):
        figures.card_figure(tmp_path / "x.png", {"metrics": []})
    card["spread"] = {"ratio": [1.0, 1.1], "steps": [1]}
    with pytest.raises(UserError, match="part 'spread'"):
        figures.card_figure(tmp_path / "x.png", card)


def test_training_curves(tmp_path):
    log = tmp_path / "metrics.csv"
    lines = ["step,seed,loss,kl,val_loss,note"]
    for step in range(100, 2100, 100):
        for seed in (0, 1):
            held_out = "" if step % 500 else f"{3 / step}"
            lines.append(f"{step},{seed},{2 / step + seed},{step},{held_out},x")
    log.write_text("\n".join(lines))
    pixels = check_png(figures.training_figure(tmp_path / "t.png", log, title="dt"))
    assert has_color(pixels, style.VERMILION)


def test_every_seed_and_threshold_has_a_curve_of_its_own(tmp_path, monkeypatch):
    drawn = []
    draw = training_figure_module._draw_metric

    def noting(ax, step, seeds, lines):
        draw(ax, step, seeds, lines)
        drawn.append(sorted(tuple(line.get_ydata()) for line in ax.get_lines()))

    monkeypatch.setattr(training_figure_module, "_draw_metric", noting)
    log = tmp_path / "metrics.csv"
    lines = ["step,seed,cost_limit,loss"]
    lines += [
        f"{step},{seed},{limit},{step + seed + limit}"
        for step in (1, 2)
        for seed in (3, 4)
        for limit in (20.0, 40.0)
    ]
    log.write_text("\n".join(lines))
    figures.training_figure(tmp_path / "t.png", log)
    expected = [(s + x + 1, s + x + 2) for s in (3, 4) for x in (20.0, 40.0)]
    assert drawn == [sorted(expected)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss\n1\n", "no column 'step'"),
        ("step,loss\n", "has no curves"),
        ("step,loss\nx,1\n", "step 'x'; expected a whole number"),
        ("step,note\n1,a\n", "no numeric metric"),
        (None, "cannot be read"),
    ],
)
def test_bad_training_logs(tmp_path, text, message):
    log = tmp_path / "metrics.csv"
    if text is not None:
        log.write_text(text)
    with pytest.raises(UserError, match=message):
        figures.training_figure(tmp_path / "t.png", log)
    assert not (tmp_path / "t.png").exists()


@pytest.mark.slow
def test_pictures_are_shrunk_until_they_fit(tmp_path):
    with style.styled():
        figure, axes = style.new_figure(9, 6)
        noise = np.random.default_rng(0).random((600, 900, 3))
        axes[0, 0].imshow(noise)
        path = style.save_png(figure, tmp_path / "noise.png")
    assert path.stat().st_size < 150_000


def test_variant_colors_are_fixed_and_distinct():
    assert len(set(style.variant_colors(VARIANTS).values())) == len(VARIANTS)
    assert style.variant_colors(["gate", "mine", "none"])["mine"] != style.VERMILION
    assert style.variant_colors(["sas", "mine"])["sas"] == style.BLUE
    assert style.variant_colors(["mine"])["mine"].startswith("#")


@pytest.mark.slow
def test_clip_is_short_small_and_ends_with_the_episode(tmp_path):
    episodes = {"none": samples.episode(0), "sas": samples.episode(1, steps=400)}
    path = clip.write_clip(
        tmp_path / "clip.gif", layout=samples.layout(), paths=episodes, title="PG1"
    )
    assert path.stat().st_size < 1_500_000
    with Image.open(path) as gif:
        assert gif.n_frames > 50 and gif.width == 2 * (gif.height - 44)
        milliseconds, frames = 0, []
        for index in range(gif.n_frames):
            gif.seek(index)
            milliseconds += gif.info["duration"]
            if index in (0, gif.n_frames // 2, gif.n_frames - 1):
                frames.append(np.asarray(gif.convert("RGB")))
    assert 9_000 < milliseconds <= 12_000
    first, middle, last = frames
    assert (first != middle).any() and (middle != last).any()
    # The shorter episode has ended: its panel no longer changes, the other one does.
    half, header = first.shape[1] // 2, 44
    changed = (middle != last).any(axis=-1)[header:]
    assert changed[:, :half].sum() > 3 * changed[:, half:].sum()


def test_a_clip_flashes_where_any_step_of_a_frame_costs():
    """Frames are fewer than steps: one costly step between two of them shows."""
    costs = np.zeros(10)
    costs[[3, 9]] = 1.0
    pose = np.zeros((10, 6))
    pose[:, 0] = np.linspace(0.0, 1.0, 10)
    episode = EpisodePath(pose=pose, costs=costs, rewards=None)
    panel = clip._Panel({}, episode, "none", "#000000", (-2.0, 2.0, -2.0, 2.0), 60)
    red = ImageColor.getrgb(style.VERMILION)
    flashes = [panel.at(step).getpixel((0, 30)) == red for step in (0, 2, 5, 8, 9, 12)]
    assert flashes == [False, False, True, False, True, False]


def test_clip_drops_frames_to_stay_small(tmp_path, monkeypatch):
    episodes = {"sas": samples.episode(1, steps=300)}
    monkeypatch.setattr(clip, "_MAX_BYTES", 60_000)
    path = clip.write_clip(
        tmp_path / "c.gif", layout=samples.layout(), paths=episodes, seconds=4
    )
    assert path.stat().st_size <= 60_000
    with pytest.raises(UserError, match="clip of 30 seconds"):
        clip.write_clip(tmp_path / "d.gif", layout={}, paths=episodes, seconds=30)
    with pytest.raises(UserError, match="no paths"):
        clip.write_clip(tmp_path / "d.gif", layout={}, paths={})
