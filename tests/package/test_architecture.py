"""Imports go one way: a walk over the syntax trees of everything in sas_jax."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]

# Lowest first. A package imports from its own modules and from lower levels only, never
# from a neighbour. Everything in sas_jax has its place here.
LEVELS = (
    {"errors"},
    {"setting_names"},
    {"types", "config", "progress", "shapes"},
    {"envs", "files", "gaussian"},
    {"stats", "models"},
    {"data", "alignment"},
    {"critic", "policies", "jax_envs"},
    {"asking", "support"},
    {"experiment"},
    {"learners"},
    {"checkpoint_content"},
    {"packed"},
    {"checkpoint"},
    {"training", "card"},
    {"report", "online"},
    {"risks"},
    {"evaluation"},
    {"studies", "api", "sweeps"},
    {"trained"},
    {"exporting", "command"},
)
# What these must not reach besides, directly or through others, though it is lower.
NETWORKS = {"sas_jax.models.transformer", "sas_jax.models.world_model"}
NEVER = {
    "sas_jax.alignment": {"sas_jax.models"},
    "sas_jax.report": NETWORKS | {"sas_jax.alignment", "sas_jax.checkpoint_content"},
    "sas_jax.envs": {"sas_jax.types", "sas_jax.config"},
}
# The parts of `data` that put arrays on the device or ask the lidars' law, which is
# written in JAX; all else there is numpy only.
DEVICE_DATA = {
    "sas_jax.data.device_rows",
    "sas_jax.data.spec",
    "sas_jax.data.transitions",
}
# Judges numbers that others measured; the rest of `card` measures with JAX.
NUMPY_CARD = {"sas_jax.card.verdict"}


@cache
def modules() -> dict[str, ast.Module]:
    """Dotted name -> syntax tree of every module of the package."""
    trees = {}
    for path in sorted((ROOT / "sas_jax").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(), str(path))
    return trees


def imports(nodes) -> set[str]:
    """Full dotted names that the import statements among `nodes` name."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def all_imports(name: str) -> set[str]:
    return imports(ast.walk(modules()[name]))


def inner_imports(name: str) -> set[str]:
    """Modules of sas_jax that module `name` imports, inside functions as well."""
    return _modules_among(all_imports(name)) - {"sas_jax", name}


def eager_inner_imports(name: str) -> set[str]:
    """Modules of sas_jax that module `name` imports as soon as it is imported."""
    return _modules_among(imports(modules()[name].body)) - {"sas_jax", name}


def _modules_among(targets: set[str]) -> set[str]:
    """The modules of sas_jax that `targets`, modules or names in them, belong to."""
    owners = {t if t in modules() else t.rpartition(".")[0] for t in targets}
    return owners & modules().keys()


def part(name: str) -> str:
    """The first name below sas_jax: a module or a package such as `data`."""
    return (name.split(".") + [""])[1]


@cache
def reached(name: str) -> frozenset[str]:
    """Modules that importing `name` and calling all of it may import, transitively."""
    found, waiting = set(), [name]
    while waiting:
        for target in inner_imports(waiting.pop()) - found:
            found.add(target)
            waiting.append(target)
    return frozenset(found)


def test_the_walk_sees_the_package():
    assert {"sas_jax", "sas_jax.errors"} <= modules().keys()
    assert any(inner_imports(name) for name in modules())


def test_imports_go_down_the_levels():
    level = {part: n for n, parts in enumerate(LEVELS) for part in parts}
    wrong = []
    for name in modules():
        here = part(name)
        assert not here or here in level, f"{name}: give {here!r} a level"
        for target in inner_imports(name) if here else ():
            there = part(target)
            if there != here and level[there] >= level[here]:
                wrong.append(f"{name} imports {target}")
    assert not wrong


@pytest.mark.parametrize("start", NEVER)
def test_what_must_not_be_reached_is_not(start):
    def within(name, roots):
        return any(name == root or name.startswith(f"{root}.") for root in roots)

    mine = [name for name in modules() if within(name, {start})]
    assert mine, start
    wrong = [
        f"{name} reaches {target}"
        for name in mine
        for target in reached(name)
        if within(target, NEVER[start])
    ]
    assert not wrong


def test_no_module_imports_itself_through_others():
    for start in modules():
        found, waiting = set(), [start]
        while waiting:
            for target in eager_inner_imports(waiting.pop()) - found:
                found.add(target)
                waiting.append(target)
        assert start not in found, f"{start} imports itself in a circle"


def test_nothing_imports_the_entry_points_or_tests():
    for name in modules():
        for target in all_imports(name):
            assert target.split(".")[0] not in ("experiments", "tests"), name


@pytest.mark.parametrize(
    "name", ["sas_jax.alignment.imagination", "sas_jax.alignment.lyapunov"]
)
def test_kernels_see_functions_not_flax(name):
    assert not {t for t in all_imports(name) if t.split(".")[0] == "flax"}


def test_environment_suites_are_imported_on_demand_by_envs_only():
    suites = {"safety_gymnasium", "bullet_safety_gym", "pybullet"}
    for name, tree in modules().items():
        found = {target.split(".")[0] for target in all_imports(name)} & suites
        assert not found or part(name) == "envs", f"{name} imports {found}"
        at_once = {target.split(".")[0] for target in imports(tree.body)} & suites
        assert not at_once, f"{name} imports {at_once} when it is imported"


def test_readers_workers_and_reports_import_no_jax():
    """In a fresh interpreter, so that what the imported modules import counts."""
    names = [
        name
        for name in modules()
        if part(name) in ("", "errors", "envs", "files", "stats", "report", "data")
        and name not in DEVICE_DATA
        or name in NUMPY_CARD
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    loaded = {'jax', 'flax', 'orbax', 'torch'} & sys.modules.keys()\n"
        "    assert not loaded, f'{name} imports {sorted(loaded)}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_third_party_imports_are_declared():
    """By the core dependencies; what is imported on demand only, by some extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {_plain(Requirement(line).name) for line in project["dependencies"]}
    extras = {
        _plain(Requirement(line).name)
        for lines in project["optional-dependencies"].values()
        for line in lines
    }
    # Installed without its dependencies, or by choice, see docs/howto/install.md; crax
    # is what crax-bench is imported as.
    extras |= {"safety-gymnasium", "wandb", "torch", "crax"}
    distributions = importlib.metadata.packages_distributions()
    # What is imported when a module that no other imports, a way in, is imported.
    at_once = modules().keys() - set.union(*map(inner_imports, modules()))
    waiting = list(at_once)
    while waiting:
        found = eager_inner_imports(waiting.pop()) - at_once
        at_once |= found
        waiting += found
    for name, tree in modules().items():
        eager = imports(tree.body)
        for target in all_imports(name):
            top = target.split(".")[0]
            if top == "sas_jax" or top in sys.stdlib_module_names:
                continue
            owners = {_plain(owner) for owner in distributions.get(top, [top])}
            always = target in eager and name in at_once
            allowed = core if always else core | extras
            assert owners & allowed, f"{name} imports {top}, which is not declared"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
