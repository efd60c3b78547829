"""A user's script, never run: `make lint` reads it with mypy.

A line that is wrong on purpose says which error is expected; mypy reports the remark as
unused where it finds no such error. So both directions are checked.
"""

from typing import Any, assert_type

import jax
import numpy as np

import sas_jax
from sas_jax.alignment import rules, variants
from sas_jax.alignment.lyapunov import Selection
from sas_jax.api import LoadedPolicy
from sas_jax.envs.vector.env import StepBatch
from sas_jax.evaluation.evaluate import Evaluation, evaluate
from sas_jax.learners.algorithm import Algorithm
from sas_jax.types import Learner, Metrics, Policy, Rows, TimeStep, TrainState


def train_and_evaluate() -> None:
    config = sas_jax.default_config("cdt", "OfflinePointGoal1Gymnasium-v0")
    assert_type(config, sas_jax.ExperimentConfig)
    sas_jax.default_config(3)  # type: ignore[arg-type]
    episodes = sas_jax.load_data("data.hdf5")
    assert_type(episodes, sas_jax.Episodes)
    sas_jax.load_data(1)  # type: ignore[arg-type]
    trained = sas_jax.fit(config, episodes, "runs/mine")
    assert_type(trained, sas_jax.Checkpoint)
    sas_jax.fit("cdt", episodes, "runs/mine")  # type: ignore[arg-type]
    loaded = sas_jax.load_checkpoint("runs/mine", step=100)
    settings = sas_jax.EvaluationConfig(variants=("none", "sas"), num_episodes=8)
    found = evaluate(loaded, settings)
    assert_type(found, Evaluation)
    print(found.results[0].cost)
    print(found.paths.length)  # type: ignore[union-attr]  # there may be none
    print(found.results[0].costs)  # type: ignore[attr-defined]


def act_with_a_loaded_policy(obs: np.ndarray) -> Any:
    loaded = sas_jax.load_policy("runs/mine", variants=("sas",))
    assert_type(loaded, LoadedPolicy)
    assert_type(loaded.policy, Policy)
    sas_jax.load_policy("runs/mine", variant="sas")  # type: ignore[call-arg]
    count = obs.shape[0]
    zeros = np.zeros(count, np.float32)
    rows = Rows(cost_limit=zeros + 20.0, episode_seed=np.arange(count, dtype="u4"))
    Rows(cost_limit=zeros)  # type: ignore[call-arg]
    now = TimeStep(obs=obs, reward=zeros, cost=zeros, is_first=zeros == 0)
    key = jax.random.key(0)
    carry = loaded.policy.initial_carry(loaded.variables, rows, key)
    carry = loaded.policy.begin(loaded.variables, carry, now, key)
    action, carry = loaded.policy.act(loaded.variables, carry, now, key)
    return action


def align_a_policy_of_my_own() -> np.ndarray:
    def policy(variables: Any, history: Any, mask: Any) -> tuple[jax.Array, jax.Array]:
        return variables["mean"], variables["log_std"]

    def dynamics(
        variables: Any, history: Any, mask: Any, action: Any
    ) -> tuple[jax.Array, jax.Array]:
        return history.obs[-1], variables["log_std"]

    model = sas_jax.from_history_policy(
        policy, dynamics, action_dim=2, context=20, prompt_steps=5
    )
    assert_type(model, sas_jax.SequenceModel)
    config = sas_jax.SASConfig(num_first=8, prompt_length=5)
    sas_jax.SASConfig(num_frist=8)  # type: ignore[call-arg]
    aligned = sas_jax.AlignedPolicy(model, {}, config, episode_steps=1000)
    aligned.reset(np.zeros(3), seed=7, cost_limit=20.0)
    action = aligned.act(np.zeros(3), 0.0, 0.0)
    assert_type(action, np.ndarray)
    sas_jax.AlignedPolicy(policy, {}, config)  # type: ignore[arg-type]
    return action


@rules.rule("calm")
def calmest(
    key: jax.Array, seen: rules.Candidates, config: sas_jax.SASConfig
) -> Selection:
    return rules.selection(seen.energies.mean(axis=1), seen)


variants.add_variant("calm", variants.Variant(first="calm"))
variants.add_variant("calm", "calm")  # type: ignore[arg-type]


def an_algorithm(config: sas_jax.ExperimentConfig) -> Algorithm:
    def update(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        return state, {"loss": batch.mean()}

    def make_learner(config: sas_jax.ExperimentConfig, spec: Any) -> Learner:
        return Learner(
            init=lambda key, limit: TrainState(0, key, {}, (), ()),  # type: ignore[arg-type]
            sample=lambda data, key, state: data,
            update=update,
            validate=lambda state, batch, key: {},
        )

    return Algorithm(
        name="mine",
        config_class=dict,
        default_config=lambda task: config,
        make_learner=make_learner,
        make_policy=lambda *_, **__: 1,  # type: ignore[arg-type]
        variables_of=lambda state: {"params": state.params},
        to_device=lambda *_, **__: None,
    )


def many_episodes() -> StepBatch:
    with sas_jax.VectorEnv("OfflinePointGoal1Gymnasium-v0", 4) as envs:
        envs.reset(np.arange(4))
        batch = envs.step(np.zeros((4, 2)))
    assert_type(batch.obs, np.ndarray)
    sas_jax.VectorEnv("OfflinePointGoal1Gymnasium-v0")  # type: ignore[call-arg]
    print(batch.observation)  # type: ignore[attr-defined]
    return batch
