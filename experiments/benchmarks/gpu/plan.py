"""Which cases the GPU benchmark runs, in which order, and a line for each."""

import dataclasses
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax

from experiments.benchmarks import model_cases
from experiments.benchmarks.gpu import cases as gpu_cases
from experiments.benchmarks.gpu import run as gpu_run
from sas_jax.errors import UserError
from sas_jax.experiment import ExperimentConfig


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of all cases; the defaults take a large card under 8 minutes.

    modes: of `gpu_cases.MODES`. trajectories: P of imagination over `horizon` steps.
    episodes: of Algorithm 1 over `align_horizon` steps. robots: that act on plans at
    once; plans: of a run. worlds: whole episodes at once, environment and all, of
    `world_steps` steps. seeds: trained at once. steps,
    cdt_steps: of a call. data_episodes: made up to train on. matrix: the peak's, 0 is
    the backend's own. copy_megabytes: the bandwidth's array. repeats: of each case.
    """

    modes: tuple[str, ...] = tuple(gpu_cases.MODES)
    trajectories: tuple[int, ...] = (5, 100, 1000, 10_000, 100_000)
    horizon: int = 50
    episodes: tuple[int, ...] = (1, 60)
    align_horizon: int = 1000
    robots: tuple[int, ...] = (1, 32, 1024)
    plans: int = 5
    worlds: tuple[int, ...] = (4096,)
    world_steps: int = 50
    seeds: tuple[int, ...] = (1, 3)
    steps: int = 100
    cdt_steps: int = 20
    data_episodes: int = 50
    matrix: int = 0
    copy_megabytes: int = 2048
    repeats: int = 5

    def __post_init__(self):
        for mode in self.modes:
            if mode not in gpu_cases.MODES:
                known = ", ".join(gpu_cases.MODES)
                raise UserError(f"--modes: unknown {mode!r}; expected some of {known}")
        counts = "horizon plans world_steps steps cdt_steps copy_megabytes repeats"
        least = dict.fromkeys(counts.split(), 1)
        for name, lowest in (least | {"matrix": 0, "data_episodes": 2}).items():
            if getattr(self, name) < lowest:
                raise UserError(f"--{name}={getattr(self, name)}: expected >= {lowest}")


SMOKE = Sizes(
    modes=("fp32", "bf16"),
    trajectories=(5,),
    horizon=3,
    episodes=(2,),
    align_horizon=8,
    robots=(2,),
    plans=1,
    worlds=(2,),
    world_steps=3,
    seeds=(2,),
    steps=1,
    cdt_steps=1,
    data_episodes=4,
    copy_megabytes=64,
    repeats=1,
)
# Settings of a model that compiles fast and trains on little.
SMALL = (
    "model.decoder.width=16",
    "model.decoder.depth=1",
    "model.vae_hidden=16",
    "model.policy_hidden=16",
    "model.head_hidden=16",
    "model.latent_dim=3",
    "model.marginal_latent_dim=3",
    "train.batch_rows=2",
    "train.row_length=20",
)


def sizes_of(base: Sizes, given: dict[str, object]) -> Sizes:
    """`base` with the flags that were given; UserError names a wrong one."""
    found = {}
    for name, value in given.items():
        is_list = isinstance(getattr(base, name), tuple)
        if is_list and name != "modes":
            value = model_cases.numbers(name, value) if value else ()
        found[name] = tuple(value) if is_list else value
    if found.get("trajectories") == () or found.get("modes") == ():
        raise UserError("--trajectories and --modes: expected at least one")
    return dataclasses.replace(base, **found)


def environment() -> dict[str, object]:
    """The devices, and what the driver says of them where there is one."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    found = {
        "device_kind": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "memory_limit_bytes": stats.get("bytes_limit"),
    }
    if shutil.which("nvidia-smi"):
        query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit"
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
        )
        found["nvidia_smi"] = done.stdout.strip().splitlines()
    return found


def run(
    recorder: gpu_run.Recorder,
    sizes: Sizes,
    configs: dict[str, ExperimentConfig],
    checkpoint: str,
) -> None:
    """Measures everything, what matters most first.

    configs: of "dt" and "cdt". checkpoint: of `gpu_cases.measure_selection`.
    """
    config = configs["dt"]
    spec = model_cases.make_spec(config)

    def measure(case, function, *args, **kwargs):
        row = recorder.measure(case, function, *args, **kwargs)
        print(f"{recorder.seconds:5.0f} s  {case}: {describe(row)}", flush=True)
        return row

    peaks, bandwidth = _limits(measure, sizes)
    for count in sizes.trajectories:
        for mode in sizes.modes:
            measure(
                f"imagination, P = {count}, {mode}",
                gpu_cases.measure_imagination,
                config,
                spec,
                mode,
                count=count,
                horizon=sizes.horizon,
                repeats=sizes.repeats,
                peak=peaks[mode],
                bandwidth=bandwidth,
            )
    # Compiling takes most of the time: TF32 is measured in imagination and training.
    modes = tuple(m for m in sizes.modes if m != "tf32") or sizes.modes
    _align(measure, sizes, config, spec, modes, checkpoint)
    for robots in sizes.robots:
        for mode in modes:
            for variant in ("none", "plan"):
                measure(
                    f"control, {variant}, {robots} robots, {mode}",
                    gpu_cases.measure_planning,
                    config,
                    spec,
                    mode,
                    robots=robots,
                    variant=variant,
                    plans=sizes.plans,
                )
    if sizes.worlds and importlib.util.find_spec("safety_gymnasium"):
        measure(
            "random actions, simulator",
            gpu_cases.measure_simulator,
            steps=40 * sizes.world_steps,
        )
    for episodes in sizes.worlds:
        measure(
            f"random actions, {episodes} at once",
            gpu_cases.measure_recording,
            episodes=episodes,
            steps=sizes.world_steps,
            repeats=sizes.repeats,
        )
        for variant in ("none", "plan"):
            measure(
                f"whole episodes, {variant}, {episodes} at once, {modes[0]}",
                gpu_cases.measure_worlds,
                config,
                spec,
                modes[0],
                variant=variant,
                episodes=episodes,
                steps=sizes.world_steps,
                repeats=sizes.repeats,
            )
    if sizes.seeds:
        _train(measure, sizes, configs, peaks)


def _limits(measure, sizes: Sizes) -> tuple[dict[str, float | None], float | None]:
    """What the chip reaches: FLOP/s of products by mode, bytes/s of a copy."""
    peaks = {
        mode: measure(
            f"products, {mode}",
            gpu_cases.measure_peak,
            mode,
            size=sizes.matrix,
            repeats=sizes.repeats,
        ).get("flops_per_second")
        for mode in sizes.modes
    }
    bandwidth = measure(
        "copy",
        gpu_cases.measure_bandwidth,
        megabytes=sizes.copy_megabytes,
        repeats=sizes.repeats,
    ).get("bytes_per_second")
    return peaks, bandwidth


def _align(measure, sizes: Sizes, config, spec, modes, checkpoint: str) -> None:
    """Algorithm 1, and whether precision changes what it selects."""
    align = {"horizon": sizes.align_horizon}
    for episodes in sizes.episodes:
        for mode in modes:
            measure(
                f"Algorithm 1, B = {episodes}, {mode}",
                gpu_cases.measure_align,
                config,
                spec,
                mode,
                episodes=episodes,
                repeats=sizes.repeats,
                **align,
            )
    if sizes.episodes and len(modes) > 1:
        measure(
            f"selection beside {modes[0]}",
            gpu_cases.measure_selection,
            config,
            spec,
            modes,
            episodes=max(sizes.episodes),
            path=checkpoint,
            **align,
        )


def _train(measure, sizes, configs, peaks):
    """Training steps, in JAX's default precision where it is among the modes."""
    mode = "tf32" if "tf32" in sizes.modes else sizes.modes[0]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "episodes.hdf5"
        model_cases.write_episodes(data, configs["dt"], sizes.data_episodes)
        for algo, steps in (("dt", sizes.steps), ("cdt", sizes.cdt_steps)):
            for seeds in sizes.seeds:
                measure(
                    f"training, {algo}, {seeds} seed{'s' * (seeds > 1)}, {mode}",
                    gpu_cases.measure_training,
                    configs[algo],
                    mode,
                    data=str(data),
                    seeds=seeds,
                    steps=steps,
                    repeats=sizes.repeats,
                    peak=peaks[mode],
                )


def describe(row: dict) -> str:
    """A row's numbers in words."""
    if "error" in row:
        return row["error"]
    if "flops_per_second" in row:
        return f"{row['flops_per_second'] / 1e12:.2f} TFLOP/s"
    if "bytes_per_second" in row:
        return f"{row['bytes_per_second'] / 1e9:.0f} GB/s"
    if "same" in row:
        return "; ".join(
            f"{mode}: same prompt in {x['prompt']:.0%} of {row['episodes']} episodes, "
            f"same trajectory in {x['second']:.0%}"
            for mode, x in row["same"].items()
        )
    if "where" in row:
        return f"{row['steps_per_second']:.0f} environment steps a second"
    if "milliseconds_a_step" not in row:
        seconds = row["seconds"]["median"]
        return f"{seconds:.2f} s, {row['seconds_an_episode']:.3f} s an episode"
    words = [f"{row['milliseconds_a_step']:.3f} ms a step"]
    for name, what in (("share_of_peak", "peak"), ("share_of_bandwidth", "bandwidth")):
        if row.get(name):
            words.append(f"{row[name]:.1%} of the {what}")
    if "minutes_of_100k_steps" in row:
        words.append(f"100 000 steps in {row['minutes_of_100k_steps']:.1f} min")
    return ", ".join(words)
