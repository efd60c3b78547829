"""XLA's flags for tests, which compile far more than they compute.

Without them (n = 1 each, one core) a policy that aligns in flight compiled in 11.4 s
instead of 4.2 s. They choose how kernels are generated and not what is computed, but
may round differently: tests of optimised code run without them.
"""

from importlib import metadata

# XLA ends the process on a flag that it does not know, so versions count.
_KNOWN_TO = "0.10."
_QUICK = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
)


def quick(flags: str) -> str:
    """`flags` with those that make compilation quick, where this XLA knows them."""
    if not metadata.version("jaxlib").startswith(_KNOWN_TO):
        return flags
    return " ".join([plain(flags), *_QUICK]).strip()


def plain(flags: str) -> str:
    """`flags` without what `quick` adds."""
    return " ".join(flag for flag in flags.split() if flag not in _QUICK)


def with_devices(flags: str, count: int) -> str:
    """`flags` and that many virtual CPU devices."""
    return f"{flags} --xla_force_host_platform_device_count={count}".strip()
