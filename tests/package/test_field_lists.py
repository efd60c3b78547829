"""Fields in docstrings become lists on the API pages."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("griffe", reason="needs the docs extra")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts/field_lists.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("field_lists", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_paragraph_of_fields_becomes_a_list(script):
    text = (
        "What it is.\n\nobs: `[B, O]`; reward, cost: `[B]` of the\nstep. n: how many."
        "\n\nProse with a colon: it stays."
    )
    assert script.with_lists(text, ["obs", "reward", "cost", "n"]) == (
        "What it is.\n\n- `obs`: `[B, O]`;\n- `reward, cost`: `[B]` of the\n    step.\n"
        "- `n`: how many.\n\nProse with a colon: it stays."
    )


def test_only_known_names_are_split_off_within_a_line(script):
    text = "obs: see there. Note: this is no field."
    assert script.with_lists(text, ["obs"]) == f"- `obs`: {text[5:]}"


def test_arguments_on_one_line_get_lines_of_their_own(script):
    text = "Args:\n  a: the first. b: the second,\n    which goes on.\n  c: the third."
    assert script.with_lists(text, "abc") == (
        "Args:\n  a: the first.\n  b: the second,\n    which goes on.\n  c: the third."
    )


def test_an_extension_sees_every_docstring_of_a_package(script, tmp_path):
    import griffe

    source = (
        'class Point:\n    """A place.\n\n    x: of it. y: too.\n    """\n'
        "\n    x: int\n    y: int\n"
    )
    (tmp_path / "places.py").write_text(source)
    loaded = griffe.load(
        "places",
        search_paths=[tmp_path],
        extensions=griffe.load_extensions(script.FieldLists),
    )
    assert loaded["Point"].docstring.value == "A place.\n\n- `x`: of it.\n- `y`: too."
