"""Synthetic inputs of the report tests, shaped and scaled like the real ones."""

import numpy as np

from sas_jax.files.results import EpisodeResult
from sas_jax.report.scene import EpisodePath


def make_row(**changes) -> EpisodeResult:
    values = {
        "task": "PointGoal1",
        "algo": "dt",
        "variant": "none",
        "cost_limit": 20.0,
        "train_seed": 0,
        "episode_seed": 5000,
        "episode_return": 0.1 + 0.2,
        "cost": 41.0,
        "length": 1000,
        "failed": True,
        "normalized_return": 1 / 3,
        "normalized_cost": 2.05,
    }
    return EpisodeResult(**(values | changes))


def results_of(
    effects, *, layouts=40, train_seeds=(0,), limits=(20.0, 40.0, 80.0), obeys=False
):
    """Rows with the prototype's noise: cost 60 +- 45, return 16 +- 5, chaotic pairs.

    effects: variant -> (shift of return, factor on cost). Without `obeys` an episode
    is the same at every threshold, as for a model that has no cost token.
    """
    rng = np.random.default_rng(7)
    rows = []
    for variant, (shift, factor) in effects.items():
        for seed in train_seeds:
            for layout in range(layouts):
                for limit in limits:
                    if obeys or limit == limits[0]:
                        drawn = rng.gamma(1.6, 38.0) * (
                            0.5 + limit / 120 if obeys else 1
                        )
                        cost = float(round(factor * drawn)) * (rng.random() > 0.05)
                        gain = float(rng.normal(16.0 + shift, 5.0))
                    rows.append(
                        make_row(
                            variant=variant,
                            train_seed=seed,
                            episode_seed=5000 + layout,
                            cost_limit=limit,
                            episode_return=gain,
                            cost=cost,
                            failed=cost > 0,
                            normalized_return=(gain - 0.01) / 30.06,
                            normalized_cost=cost / limit,
                        )
                    )
    return rows


def energies(num, steps, seed=0):
    """[num, steps] smooth noise with drift, as negative log-densities have."""
    rng = np.random.default_rng([11, seed])
    noise = rng.normal(size=(num, steps)).cumsum(axis=1) * 0.35
    return -60 + noise + rng.normal(size=(num, steps)) + np.linspace(0, 8, steps)


def layout():
    """Objects of every kind, as PointGoal1 and its sister tasks place them."""
    rng = np.random.default_rng(3)

    def place(count, radius):
        xy = rng.uniform(-1.5, 1.5, size=(count, 2))
        return np.column_stack([xy, np.full(count, radius)])

    return {
        "hazards": place(8, 0.2),
        "vases": place(1, 0.1),
        "goal": place(1, 0.3),
    }


def episode(seed=0, steps=1000, goals=9):
    """A path that steers from goal to goal, with costs inside the hazards."""
    rng = np.random.default_rng([5, seed])
    hazards = layout()["hazards"]
    position, yaw, speed = np.array([-0.9, 0.3]), rng.uniform(-3, 3), 0.0
    goal, poses, costs, rewards = rng.uniform(-1.4, 1.4, 2), [], [], []
    for _ in range(steps):
        before = np.linalg.norm(goal - position)
        if before < 0.3:
            goal = rng.uniform(-1.4, 1.4, 2)
            before = np.linalg.norm(goal - position)
        wanted = np.arctan2(*(goal - position)[::-1])
        turn = (wanted - yaw + np.pi) % (2 * np.pi) - np.pi
        yaw += np.clip(turn, -0.12, 0.12) + rng.normal(0, 0.05)
        speed += 0.1 * (0.02 * goals / 9 * np.cos(turn) - speed)
        position = position + speed * np.array([np.cos(yaw), np.sin(yaw)])
        gaps = np.linalg.norm(hazards[:, :2] - position, axis=1)
        poses.append([*position, yaw, *goal, 0.0])
        costs.append(float((gaps <= hazards[:, 2]).any()))
        rewards.append(before - np.linalg.norm(goal - position))
    return EpisodePath(np.array(poses), np.array(costs), np.array(rewards))


def card():
    """A world-model card with every part, of a model that is only fairly good."""
    steps = np.arange(1, 101)
    return {
        "metrics": [
            {"name": "cost correlation, 10 steps", "value": 0.61, "low": 0.70},
            {
                "name": "spread ratio at step 99",
                "value": 1.12,
                "low": 0.8,
                "high": 1.25,
            },
            {"name": "active latents", "value": 7},
        ],
        "log_density": {
            "steps": steps,
            "real_mean": -2 + 0.3 * np.sin(steps / 9),
            "real_sd": np.full(100, 9.0),
            "imagined_mean": -2 - steps * 0.15,
            "imagined_sd": 9 + steps * 0.08,
        },
        "spread": {"steps": steps, "ratio": 0.95 + 0.3 * steps / 100},
        "cost": {
            "horizons": [10, 25, 50, 100],
            "correlation": [0.61, 0.44, 0.28, np.nan],
            "rate_imagined": [0.09, 0.085, 0.082, 0.08],
            "rate_real": [0.05, 0.05, 0.05, 0.05],
        },
        "pit": {
            "counts": np.array([61, 48, 47, 55, 52, 49, 46, 50, 51, 66]) * 20,
            "independent": 5000,
            "ks_mean": 0.03,
        },
        "transition": {"log_likelihood": 88.2, "per_dimension": 1.6},
        "latents": {"active": 5, "total": 16},
        "next_return": {"r2": 0.4, "rmse": 0.02, "reward_sd": 0.026},
        "cost_head": {"auc": 0.97, "bce": 0.08, "bce_of_base_rate": 0.21},
    }
