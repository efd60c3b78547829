"""One GPU in under 8 minutes: peaks, imagination, Algorithm 1, plans, training.

bash experiments/benchmarks/gpu/gpu.sh              sets up what is missing first
JAX_PLATFORMS=cpu bash experiments/benchmarks/gpu/gpu.sh --smoke

Modes: fp32 (products of the highest precision), tf32 (JAX's default on NVIDIA's cards)
and bf16 (bfloat16 activations). Shares are of the matrix products' peak in the same
mode and of the bandwidth of a copy, both measured here. The JSON at --out is whole
after every case; a case that runs out of memory says so and the others go on. DT's and
CDT's batches have the tokens of the paper's 64 x 20 and 2048 x 10 steps.
"""

import dataclasses
import os

from absl import flags

from experiments import cli
from experiments.benchmarks import model_flags
from experiments.benchmarks.gpu import plan as gpu_plan
from experiments.benchmarks.gpu import run as gpu_run
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig

_SMOKE = flags.DEFINE_bool("smoke", False, "Tiny sizes and models: does it run?")
_BUDGET = flags.DEFINE_float("budget", 400.0, "Seconds after which no case begins.")
_CHECKPOINT = cli.define_path(
    "checkpoint", "", "Trained model whose selections are compared; empty: made up."
)
_OUT = cli.define_path("out", "runs/bench/gpu.json", "Where the numbers go.")
_HELP = {
    "modes": "Some of fp32, tf32, bf16.",
    "trajectories": "P of imagination.",
    "horizon": "T of imagination.",
    "episodes": "Episodes at once of Algorithm 1; empty leaves it out.",
    "align_horizon": "T of Algorithm 1.",
    "robots": "Robots at once that act on plans; empty leaves them out.",
    "plans": "Plans of each of them.",
    "worlds": "Whole episodes at once, environment and all; empty leaves them out.",
    "world_steps": "Steps of those.",
    "seeds": "Training seeds at once; empty leaves training out.",
    "steps": "Training steps of a call of DT.",
    "cdt_steps": "Training steps of a call of CDT.",
    "data_episodes": "Made-up episodes to train on.",
    "matrix": "Size of the peak's matrices; 0: the backend's own.",
    "copy_megabytes": "Size of the bandwidth's array.",
}
_DEFAULTS = gpu_plan.Sizes()


def _define(name):
    """A flag for a field of `Sizes`, unset unless it is given."""
    default = getattr(_DEFAULTS, name)
    text = f"{_HELP[name]} Default: {default}."
    if isinstance(default, tuple):
        return flags.DEFINE_list(name, None, text)
    return flags.DEFINE_integer(name, None, text)


_SIZES = {name: _define(name) for name in _HELP}


def _configs() -> dict[str, ExperimentConfig]:
    """DT's and CDT's; the settings of --set come after those of --smoke."""
    if _SMOKE.value:
        flags.FLAGS["set"].value = [*gpu_plan.SMALL, *model_flags.SET.value]
    return {algo: model_flags.make_config(algo) for algo in ("dt", "cdt")}


def main(argv):
    """Measures case by case and prints a line for each."""
    del argv
    given = {name: f.value for name, f in _SIZES.items() if f.value is not None}
    if flags.FLAGS["repeats"].present:
        given["repeats"] = model_flags.REPEATS.value
    sizes = gpu_plan.sizes_of(gpu_plan.SMOKE if _SMOKE.value else _DEFAULTS, given)
    configs = _configs()
    least = configs["dt"].sas.prompt_length
    if sizes.align_horizon < least:
        raise UserError(f"--align_horizon={sizes.align_horizon}: expected >= {least}")
    # What a case has freed goes back to the device: one case's memory is its own.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    environment = gpu_plan.environment()
    print(", ".join(f"{name} {value}" for name, value in environment.items()))
    settings = {"task": model_flags.TASK.value, "set": model_flags.SET.value}
    settings |= dataclasses.asdict(sizes) | {"budget": _BUDGET.value}
    recorder = gpu_run.Recorder(_OUT.value, settings, environment, _BUDGET.value)
    gpu_plan.run(recorder, sizes, configs, _CHECKPOINT.value)
    print(f"{recorder.seconds:.0f} s; written to {_OUT.value}")
    if recorder.failures:
        raise UserError(f"{len(recorder.failures)} case(s) failed; see {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
