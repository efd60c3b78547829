"""The documentation is true: its code runs, its commands and names exist."""

import dataclasses
import importlib
import importlib.util
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import yaml

import sas_jax
from sas_jax import checkpoint, learners
from sas_jax import config as config_lib
from sas_jax.alignment import rules, variants
from sas_jax.alignment.config import SASConfig
from sas_jax.critic.network import CriticConfig
from sas_jax.data import dsrl
from sas_jax.envs import make as make_env
from sas_jax.envs import tasks
from tests.helpers import doc_blocks
from tests.helpers.model_fixtures import (
    make_config,
    make_episodes,
    make_spec,
    make_variables,
)

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
SETTINGS = r"(?:model|train|sas|policy|data)"


def page(name: str) -> str:
    return (ROOT / name).read_text()


def python_pages(is_slow: bool) -> list[str]:
    found = []
    for name in NAMES:
        own = [b for b in doc_blocks.blocks(page(name)) if b.language == "python"]
        if own and any(b.is_slow for b in own) == is_slow:
            found.append(name)
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with data, a checkpoint of 1000-step episodes, and the results."""
    folder = tmp_path_factory.mktemp("docs")
    episodes = make_episodes((1000, 1000, 40, 40), obs_dim=60)
    (folder / "data").mkdir()
    dsrl.write(folder / "data/pg1.hdf5", episodes)
    config = make_config(
        decoder={"depth": 1, "context": 7}, model={"max_timestep": 1000}
    )
    config = dataclasses.replace(config, sas=SASConfig())
    spec = make_spec(episodes)
    writer = checkpoint.Writer(folder / "runs/demo/model", config, spec)
    writer.save(0, some_state(config, spec))
    writer.close()
    (folder / "experiments").symlink_to(ROOT / "experiments")
    return folder


def some_state(config, spec):
    """A training state of random parameters; nothing compiles."""
    variables = make_variables(config, spec)

    def fill(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), 1)
        return jnp.zeros(x.shape, x.dtype)

    state = jax.tree.map(fill, checkpoint.abstract_state(config, spec))
    wide = {
        k: jax.tree.map(lambda x: jnp.asarray(x)[None], v) for k, v in variables.items()
    }
    return state.replace(params=wide["params"], extra=wide["variances"])


@pytest.fixture
def registries():
    """What pages register is forgotten after them."""
    tables = (
        rules.RULES,
        variants.VARIANTS,
        make_env.SUITES,
        tasks.TASKS,
        learners._registered,
    )
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def run_page(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    # Files that a page saves are found, by worker processes as well.
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    namespace = {"__name__": "page"}
    for block in doc_blocks.blocks(page(name)):
        if block.language == "python":
            doc_blocks.run_python(block, namespace)


@pytest.mark.parametrize("name", python_pages(is_slow=False))
def test_python_blocks_run(name, workplace, registries, monkeypatch):
    run_page(name, workplace, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", python_pages(is_slow=True))
def test_slow_python_blocks_run(name, workplace, registries, monkeypatch):
    run_page(name, workplace, monkeypatch)


def check_settings(module: str, values: dict, settings: list[str]) -> None:
    """Raises UserError for a setting that the command's configuration has not."""
    if module.endswith(".critic"):
        config_lib.override(CriticConfig(), settings)
        return
    task = values.get("task") or "PointGoal1"
    # A sweep gives them to each of its algorithms.
    algos = values.get("algos") or values.get("algo") or "dt"
    for algo in algos if isinstance(algos, list) else algos.split(","):
        learners.override(learners.default_config(task, algo), settings)


def shell_lines(text: str) -> list[list[str]]:
    """Commands of `sh` blocks, and of indented lines that begin with make or python."""
    found = []
    for block in doc_blocks.blocks(text):
        if block.language == "sh":
            found += doc_blocks.commands(block.code)
    for line in re.findall(r"^    ((?:make|\.venv/bin/python) .*)$", text, re.M):
        found += doc_blocks.commands(line)
    return found


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name):
    faults = []
    for words in shell_lines(page(name)):
        if words[0] == "make":
            unknown = {w for w in words[1:] if "=" not in w} - make_targets()
            faults += [f"make {target}" for target in unknown]
        fault = doc_blocks.fault_of(words, check_settings)
        faults += [fault] if fault else []
    assert not faults


def named_in(name: str) -> str:
    """The page's text, without what it says of things that are gone."""
    text = re.sub(r"^```.*?^```$", "", page(name), flags=re.M | re.S)
    if name == "CHANGELOG.md":
        return ""
    return text.split("## Tried and dropped")[0] if "decisions" in name else text


def resolves(dotted: str) -> bool:
    """Whether a dotted name below sas_jax can be imported."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_names_in_prose_exist(name):
    """Settings, modules, entry points, files and variants that a page names."""
    text, wrong = named_in(name), []
    configs = [learners.default_config("PointGoal1", a) for a in learners.names()]
    for found in re.findall(rf"`(?:--set=)?({SETTINGS}\.[\w.]+)[=`]", text):
        if not any(_has(config, found) for config in configs):
            wrong.append(found)
    for dotted in re.findall(r"`(sas_jax(?:\.\w+)+)", text):
        if not resolves(dotted):
            wrong.append(dotted)
    for entry in re.findall(r"`(?:python -m )?(experiments(?:\.\w+)+)", text):
        if importlib.util.find_spec(entry) is None:
            wrong.append(entry)
    paths = re.findall(
        r"`((?:sas_jax|tests|experiments|docs|requirements|scripts)/[\w./]*)", text
    )
    wrong += [path for path in paths if not (ROOT / path).exists()]
    assert not wrong


def test_dropped_settings_are_gone():
    dropped = page("docs/decisions.md").split("## Tried and dropped")[1]
    configs = [learners.default_config("PointGoal1", a) for a in learners.names()]
    named = re.findall(rf"`({SETTINGS}\.[\w.]+)`", dropped)
    assert named
    assert not [n for n in named if any(_has(config, n) for config in configs)]


def _has(config, dotted: str) -> bool:
    for part in dotted.split("."):
        if not hasattr(config, part):
            return False
        config = getattr(config, part)
    return True


@pytest.mark.parametrize("name", NAMES)
def test_links_and_pictures_exist(name):
    here, wrong = (ROOT / name).parent, []
    for target in re.findall(r"\]\(([^)\s]+)\)", named_in(name)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = here / path if path else ROOT / name
        if not file.exists():
            wrong.append(target)
        elif anchor and anchor not in anchors(file.read_text()):
            wrong.append(target)
    assert not wrong


def test_sections_that_code_cites_exist():
    titles = re.findall(r"^## (\d+)\.", page("docs/concepts/algorithm.md"), re.M)
    cited = set()
    for path in (ROOT / "sas_jax").rglob("*.py"):
        cited |= set(re.findall(r"algorithm,? section (\d+)", path.read_text()))
    assert cited and cited <= set(titles)


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()).strip() for title in titles)
    return {re.sub(r"\s+", "-", title) for title in plain}


@pytest.mark.parametrize("name", NAMES)
def test_prose_lines_are_short(name):
    text = re.sub(r"^```.*?^```$", "", page(name), flags=re.M | re.S)
    long = [x for x in text.splitlines() if len(x) > 120 and not x.startswith("|")]
    assert not long


def test_every_page_stands_in_the_navigation():
    def files(entries):
        for entry in entries:
            for part in entry.values() if isinstance(entry, dict) else [entry]:
                yield from files(part) if isinstance(part, list) else [part]

    listed = list(files(yaml.safe_load(page("mkdocs.yml"))["nav"]))
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(pages)


def test_reference_shows_every_part_of_the_package():
    """A package by its page, so that its modules may move within it."""
    text = "".join(page(n) for n in NAMES if n.startswith("docs/reference"))
    shown = set(re.findall(r"^::: (sas_jax\.\w+)$", text, re.M))
    parts = {f"sas_jax.{m.name}" for m in pkgutil.iter_modules(sas_jax.__path__)}
    assert shown == parts


def test_reference_lists_the_public_names():
    listed = re.findall(r"^\| `(\w+)` \|", page("docs/reference/index.md"), re.M)
    assert sorted(listed) == sorted(n for n in sas_jax.__all__ if n != "__version__")


def test_glossary_has_the_letters_of_the_docstrings():
    glossary = page("docs/concepts/glossary.md").split("## Words")[0]
    rows = re.findall(r"^\| (`.*?`) \|", glossary, re.M)
    listed = set(re.findall(r"`(\w+)`", " ".join(rows)))
    used = set(re.findall(r"`(\w)`", (ROOT / "sas_jax/types.py").read_text()[:600]))
    assert used and used <= listed


@pytest.mark.parametrize("command", ["make demo", "make test", "make watch"])
def test_the_readme_says_what_to_type_first(command):
    assert command in page("README.md")


def test_notes_and_readme_stay_short():
    assert len(page("README.md").splitlines()) <= 90
    assert len(page("BUILD_NOTES.md").splitlines()) <= 150


@pytest.mark.slow
def test_site_builds_without_a_broken_link(tmp_path):
    zensical = Path(sys.executable).with_name("zensical")
    if not zensical.exists():
        pytest.skip("needs the docs extra")
    for name in ("docs", "sas_jax", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    done = subprocess.run(
        [zensical, "build", "--clean", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "site/reference/alignment.html").exists()


# The checker itself.


def checked(text: str) -> None:
    """Runs the Python blocks of `text` as a page's."""
    namespace = {}
    for block in doc_blocks.blocks(text):
        doc_blocks.run_python(block, namespace)


def test_blocks_share_a_page_and_are_compared_with_what_they_print():
    checked(
        "a\n```python\nx = [1,\n  2]\n```\n\n```python\nprint(x)  # -> [1, 2]\n```\n"
    )


@pytest.mark.parametrize(
    "code, message",
    [
        ("print(1)  # -> 2", "line 2: '1'; it says '2'"),
        ("x = 1\nassert x == 2", "line 3: AssertionError"),
        ("import sas_jax\nsas_jax.nothing_of_the_kind", "line 3: AttributeError"),
        ("print(\n  [1, 2]\n)  # -> [1]", "line 2:"),
    ],
)
def test_a_broken_block_is_caught(code, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        checked(f"```python\n{code}\n```\n")


@pytest.mark.parametrize("text", ["```python\nx = 1\n", "```python slow\n```\n"])
def test_a_fence_that_is_not_closed_or_known_is_refused(text):
    with pytest.raises(ValueError, match="line 1"):
        doc_blocks.blocks(text)


def test_a_slow_block_is_known_by_the_comment_before_it():
    first, second = doc_blocks.blocks(
        "<!-- slow -->\n```python\nx = 1\n```\n\n```sh\nls\n```\n"
    )
    assert first.is_slow and not second.is_slow


@pytest.mark.parametrize(
    "command, fault",
    [
        ("python -m experiments.train --workdir=runs/x --set=train.num_steps=5", None),
        ("python -m experiments.train --wrokdir=runs/x", "Unknown command line flag"),
        ("python -m experiments.train --set=train.num_stepz=5", "no such setting"),
        ("python -m experiments.train --set=train.num_steps=many", "expected int"),
        ("python -m experiments.evaluate --episodes=many", "episodes"),
        ("python -m experiments.train runs/x", "unexpected 'runs/x'"),
        ("python -m experiments.nothing --x=1", "no such module"),
        ("python -m experiments.critic --set=horizon=25", None),
        ("python -m experiments.critic --set=model.decoder.width=64", "no such"),
        ("pip install .", None),
    ],
)
def test_a_wrong_command_is_caught(command, fault):
    found = doc_blocks.fault_of(doc_blocks.commands(command)[0], check_settings)
    assert (found is None) if fault is None else fault in (found or "nothing")


def test_commands_go_on_after_a_line_end():
    code = "# a comment\npython -m a \\\n    --b=1  # why\n\nmake demo\n"
    assert doc_blocks.commands(code) == [
        ["python", "-m", "a", "--b=1"],
        ["make", "demo"],
    ]
