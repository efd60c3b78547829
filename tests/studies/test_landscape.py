"""Fig. 3: places, their energies, and what the picture says of them."""

import dataclasses

import jax
import numpy as np
import pytest

from sas_jax.alignment.config import SASConfig
from sas_jax.data.episodes import Episodes
from sas_jax.errors import UserError
from sas_jax.gaussian import gaussian_log_prob
from sas_jax.report import landscape_figure
from sas_jax.report.landscape_figure import Landscape
from sas_jax.report.scene import EpisodePath
from sas_jax.studies import landscape
from sas_jax.studies.probe import make_probe
from tests.evaluation.test_evaluate import SIZES, make_checkpoint
from tests.helpers import shifted_policy
from tests.helpers.model_fixtures import make_episodes
from tests.studies.test_bound import line_probe


def test_place_is_the_first_step_of_an_episode(monkeypatch):
    """More places than one program holds, the last program filled up."""
    monkeypatch.setattr(landscape, "_CHUNK", 4)
    probe = line_probe()._replace(model=shifted_policy.MODEL, variables={})
    obs = np.linspace(-2, 2, 7, dtype=np.float32)[:, None]
    found = landscape.make_places(probe)(obs)
    np.testing.assert_allclose(found.log_density, -0.5 * obs[:, 0] ** 2, rtol=1e-6)
    scale = np.log(shifted_policy.SCALE)
    expected = gaussian_log_prob(np.zeros(1), np.zeros(1), np.full(1, scale))
    np.testing.assert_allclose(found.log_prob, np.full(7, expected[0]), atol=1e-6)


@pytest.mark.parametrize("window", [1, 3])
def test_energy_of_a_place_is_that_of_an_agent_that_stays(window):
    probe = line_probe(energy_window=window, discount=0.9)
    held = 1 + 0.9 + 0.81 if window == 3 else 1.0
    found = landscape.energy_at(np.array([-2.0, 5.0]), probe)
    np.testing.assert_allclose(found, [2.0 - np.log(held), -5.0 - np.log(held)])


def test_density_not_log_density_is_averaged_over_directions():
    values = np.log(np.array([[[1.0, 1e-9]], [[3.0, 1e-9]]]))
    np.testing.assert_allclose(landscape._log_mean(values), np.log([[2.0, 1e-9]]))
    np.testing.assert_allclose(
        landscape._log_mean(values - 5000), [[-4999.307, -5020.723]], rtol=1e-6
    )


def made_up():
    """G falls along x from 3 to -3; hazards to the right, the data's limit at x = 1."""
    x = y = np.linspace(-2, 2, 21)
    energy = 10 + 1.5 * np.tile(x, (21, 1))
    pose = np.zeros((30, 6))
    pose[:, 0] = np.linspace(-1.5, 1.5, 30)
    pose[:, 3:5] = -1.0, 1.0
    costs = (pose[:, 0] > 1).astype(float)
    return Landscape(
        seed=7,
        x=x,
        y=y,
        yaws=np.zeros(1),
        log_density=-energy,
        energy=energy,
        level=10.0,
        percentile=11.5,
        layout={
            "hazards": np.array([[1.5, 0.0, 0.25], [1.5, 1.5, 0.25]]),
            "goal": np.array([[-1.0, 1.0, 0.3]]),
            "vases": np.zeros((0, 3)),
        },
        paths={"none": EpisodePath(pose, costs), "sas": EpisodePath(pose, 0 * costs)},
    )


def test_g_regions_and_hazards():
    found = made_up()
    np.testing.assert_allclose(found.g[0], np.linspace(3, -3, 21), atol=1e-12)
    inside = found.inside("hazards")
    x, y = np.meshgrid(found.x, found.y)
    near = np.minimum(np.hypot(x - 1.5, y), np.hypot(x - 1.5, y - 1.5)) <= 0.25
    np.testing.assert_array_equal(inside, near)
    assert 2 < inside.sum() < 40
    assert not found.inside("pillars").any()
    text = landscape_figure.table(found, title="T").text()
    rows = {line[:20].strip(): line.split()[-2:] for line in text.splitlines()}
    assert rows["share with G > 0"][0] == "0"  # hazards lie where G < 0
    assert 0.4 < float(rows["share with G > 0"][1]) < 0.6
    assert rows["share beyond the dat"][0] == "1"
    assert "none: cost" in text
    # E grows with x, and hazards lie at x = 1.5: by the places' order.
    right = found.energy[inside]
    pairs = right[:, None] - found.energy[~inside]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert f"(0.5 knows nothing): {expected:.2f}" in text
    assert landscape_figure.attraction(found) == "region of attraction, G > 0"
    assert "every place" in landscape_figure.attraction(found._replace(level=99.0))
    assert "no place" in landscape_figure.attraction(found._replace(level=-99.0))


@pytest.mark.slow
def test_files_of_the_picture(tmp_path):
    found = made_up()
    path = landscape_figure.save(tmp_path / "a.npz", found, command="python -m me")
    with np.load(path) as file:
        np.testing.assert_array_equal(file["g"], found.g)
        assert (
            file["pose_sas"].shape == (30, 6) and str(file["command"]) == "python -m me"
        )
    picture = landscape_figure.landscape_figure(tmp_path / "a.png", found, title="T")
    assert picture.read_bytes().startswith(b"\x89PNG")
    # A picture in which nothing is beyond any limit.
    flat = found._replace(energy=0 * found.energy, level=5.0)
    landscape_figure.landscape_figure(tmp_path / "b.png", flat)


def test_wrong_requests_are_named():
    loaded = make_checkpoint()
    episodes = make_episodes((20, 20), **SIZES)
    with pytest.raises(UserError, match="density"):
        landscape.landscape(make_probe(loaded), episodes, 1)
    probe = make_probe(loaded, density="marginal")
    with pytest.raises(UserError, match="observations of size 5"):
        landscape.landscape(probe, make_episodes(), 1)
    with pytest.raises(UserError, match="resolution 1"):
        landscape.landscape(probe, episodes, 1, resolution=1)
    two = dataclasses.replace(loaded.config.sas, fragments=2)
    config = dataclasses.replace(loaded.config, sas=two)
    with pytest.raises(UserError, match="fragments"):
        make_probe(loaded._replace(config=config))


@pytest.mark.slow
def test_landscape_of_a_real_layout():
    loaded = make_checkpoint()
    settings = dataclasses.replace(loaded.config.sas, horizon=8)
    loaded = loaded._replace(config=dataclasses.replace(loaded.config, sas=settings))
    probe = make_probe(loaded, density="marginal")
    episodes = make_episodes((20, 20), **SIZES)
    assert isinstance(episodes, Episodes) and isinstance(probe.config, SASConfig)
    found = landscape.landscape(probe, episodes, 11, resolution=5, num_yaws=2)
    assert found.g.shape == (5, 5) and np.isfinite(found.g).all()
    assert np.isfinite(found.level) and len(found.yaws) == 2
    assert len(found.layout["hazards"]) == 8
    assert {len(path.pose) for path in found.paths.values()} == {1000}
    one = landscape.landscape(probe, episodes, 11, resolution=5, yaw=0.0)
    # One of the two directions: their mean lies within log 2 of it from below.
    assert (found.log_density >= one.log_density - np.log(2) - 0.01).all()
    jax.clear_caches()
