"""Timings of the learners on single steps; cases take turns in one process."""

import dataclasses
import math
import sys
import time

import jax
import jax.numpy as jnp

from experiments.benchmarks import common, model_cases
from experiments.benchmarks.torch import timing as torch_timing
from sas_jax import learners
from sas_jax.data import spec as spec_lib
from sas_jax.experiment import ExperimentConfig
from sas_jax.training import fit as training_fit

ALGOS = (
    "bc_safe",
    "cpq",
    "coptidice",
    "bcq_lag",
    "bear_lag",
    "caps",
    "o3srl",
    "fisor",
    "cql",
    "sac_n",
)
TORCH = "cpq in PyTorch, 1 lane"
# Of the made-up data: enough that a batch is no repetition.
_EPISODES = 20


def torch_version() -> str | None:
    """PyTorch's, None where it was not used."""
    torch = sys.modules.get("torch")
    return torch.__version__ if torch else None


def with_lanes(config: ExperimentConfig, count: int) -> ExperimentConfig:
    """The configuration with `count` lanes: seeds times thresholds, if it has them."""
    by_threshold = learners.get(config.algo).by_threshold
    size = 1
    if by_threshold:
        size = max(n for n in (1, 2, 3) if count % n == 0)
    # The made-up episodes cost about 50: within each some lie.
    limits = tuple(50.0 * 2**i for i in range(size)) if by_threshold else ()
    train = dataclasses.replace(
        config.train, num_seeds=count // size, cost_limits=limits
    )
    return dataclasses.replace(config, train=train)


def _case(config: ExperimentConfig, updates: int) -> tuple[common.Case, dict]:
    """`updates` updates of all lanes in one call, and what is known of the program."""
    episodes = model_cases.make_episodes(config, _EPISODES)
    spec = spec_lib.from_episodes(episodes)
    algorithm = learners.get(config.algo)
    learner = algorithm.make_learner(config, spec)
    data = algorithm.to_device(config, spec, episodes, is_training=True)
    seeds, limits = zip(*config.train.lanes, strict=True)
    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    states = jax.jit(jax.vmap(learner.init))(keys, jnp.array(limits))
    lowered = training_fit.make_train_chunk(config, learner, updates).lower(
        states, data
    )
    started = time.perf_counter()
    compiled = lowered.compile()
    # The body of the loop over updates counts once.
    facts = {
        "compile_seconds": time.perf_counter() - started,
        "flops": common.xla_flops(lowered) / len(seeds),
    }
    held = [states]

    def run():
        held[0], metrics = compiled(held[0], data)
        return metrics

    return common.timed(run), facts


def measure(
    configs: dict[str, ExperimentConfig],
    *,
    lanes: list[int],
    updates: int,
    repeats: int,
    clock: str,
    threads: int,
    has_torch: bool,
) -> tuple[list[dict], dict[str, float], float]:
    """Rows, one for each algorithm and number of lanes; differences; the peak.

    has_torch: also a step of CPQ in PyTorch, once its losses equal ours.
    """
    peak, work = common.peak_case("float32")
    cases, facts, found = {"peak": peak}, {}, {}
    for algo, config in configs.items():
        for count in lanes:
            name = f"{algo}, {count} lane{'s' if count > 1 else ''}"
            case, known = _case(with_lanes(config, count), updates)
            cases[name] = case
            facts[name] = known | {"algo": algo, "lanes": count}
    if has_torch:
        torch_timing.require().set_num_threads(threads)
        from experiments.benchmarks.torch import cpq as torch_cpq

        config = with_lanes(configs["cpq"], 1)
        found = torch_cpq.differences(config)
        torch_timing.require_equal(found)
        cases[TORCH] = torch_cpq.case(config, updates)
        one = next((facts[k] for k in facts if k.startswith("cpq,")), None)
        facts[TORCH] = {"compile_seconds": 0.0, "algo": "torch", "lanes": 1}
        facts[TORCH]["flops"] = one["flops"] if one else math.nan
    samples = common.interleave(cases, repeats, "updates")
    seconds = {
        name: common.spread([getattr(run, clock) for run in runs])["median"]
        for name, runs in samples.items()
    }
    rows = []
    for name, known in facts.items():
        count, single = known["lanes"], f"{known['algo']}, 1 lane"
        has_gain = count > 1 and single in samples
        share = common.ratio(samples["peak"], samples[name], clock) / work
        wall = common.spread([1e3 * run.wall / updates for run in samples[name]])
        rows.append(
            {
                "case": name,
                "updates": updates,
                "milliseconds": common.spread(
                    [1e3 * getattr(run, clock) / updates for run in samples[name]]
                ),
                "wall_milliseconds": wall,
                "lane_updates_a_second": count * updates / seconds[name],
                "gain": count * common.ratio(samples[single], samples[name], clock)
                if has_gain
                else None,
                "share_of_peak": share * known["flops"] * count * updates,
                "minutes_of_100k_updates": wall["median"] * 100_000 / 60_000,
                **known,
            }
        )
    return rows, found, work / seconds["peak"]
