"""What mypy is told to look at, and that nothing public there is without types."""

import ast
import tomllib
from pathlib import Path

import pytest

import sas_jax

ROOT = Path(__file__).resolve().parents[2]
MYPY = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
SEAMS = {
    "sas_jax.alignment.carry",
    "sas_jax.alignment.rules",
    "sas_jax.alignment.sequence_model",
    "sas_jax.alignment.variants",
    "sas_jax.envs.interface",
    "sas_jax.learners.algorithm",
    "sas_jax.types",
}


def untyped(tree: ast.Module) -> list[str]:
    """Public functions, and methods of any class, without all of their annotations."""
    found = []
    for scope in [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef))]:
        for node in scope.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            is_public = not node.name.startswith("_") or node.name.startswith("__")
            given = node.args
            names = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            names += [x for x in (given.vararg, given.kwarg) if x]
            bare = [
                x.arg
                for i, x in enumerate(names)
                if x.annotation is None and not (i == 0 and x.arg in ("self", "cls"))
            ]
            if is_public and (bare or node.returns is None):
                found.append(f"{node.name}({', '.join(bare)})")
    return found


@pytest.mark.parametrize("path", MYPY["files"])
def test_what_is_public_has_its_types(path):
    assert untyped(ast.parse((ROOT / path).read_text())) == []


def test_an_untyped_definition_is_found():
    text = "class A:\n    def b(self, c, *, d: int): ...\ndef e() -> None: ...\n"
    assert untyped(ast.parse(text)) == ["b(c)"]


def test_mypy_looks_at_every_exported_module_and_seam():
    modules = {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in MYPY["files"]
    }
    assert {*sas_jax._EXPORTS.values(), *SEAMS} <= modules


def test_a_type_checker_sees_the_names_that_load_on_first_use():
    tree = ast.parse((ROOT / "sas_jax/__init__.py").read_text())
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    assert block.test.id == "TYPE_CHECKING"
    seen = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            seen |= {
                a.asname: (node.module, a.name)
                for a in node.names
                if not a.asname.startswith("_")
            }
        elif isinstance(node, ast.Assign):
            seen[node.targets[0].id] = None
    renamed = sas_jax._RENAMED
    assert seen == {
        name: None if name in renamed else (module, name)
        for name, module in sas_jax._EXPORTS.items()
    }
