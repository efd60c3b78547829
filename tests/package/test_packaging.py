"""The lock, the metadata and what goes into the wheel."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import sas_jax
from sas_jax import command

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED_EXTRAS = ("env", "export", "minari", "tensorboard", "docs", "dev")
LOCK_FILES = ("lock.txt", "uv.txt", "pip.txt")


def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a locked file, each with its `--hash` options."""
    text = (REQUIREMENTS / name).read_text().replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        line = line.split(" #")[0].strip()
        if line and not line.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line)
            found.append((Requirement(requirement), hashes))
    return found


@pytest.mark.parametrize("name", LOCK_FILES)
def test_every_locked_requirement_has_one_version_and_hashes(name):
    locked = entries(name)
    assert locked
    names = [requirement.name for requirement, _ in locked]
    assert len(names) == len(set(names)), "two versions of one package"
    for requirement, hashes in locked:
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes)


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.iterdir()), ids=lambda p: p.name)
def test_requirement_files_name_no_address(path):
    text = path.read_text()
    assert "://" not in text
    assert not re.search(r"--(index|extra-index|find-links|trusted)", text)
    assert not re.search(r"(^|\s)/\w", text), "an absolute path"


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_lock_satisfies_the_metadata(python):
    locked = {requirement.name: requirement for requirement, _ in entries("lock.txt")}
    wanted = [*PROJECT["dependencies"]]
    for extra in LOCKED_EXTRAS:
        wanted += PROJECT["optional-dependencies"][extra]
    wanted.append("safety-gymnasium==1.0.0")
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    for line in wanted:
        want = Requirement(line)
        have = locked[want.name.lower().replace("_", "-")]
        assert have.marker is None or have.marker.evaluate(environment), line
        version = str(have.specifier).removeprefix("==")
        assert want.specifier.contains(version), f"{line}, but {version} is locked"


def test_pythons_with_a_mujoco_wheel_are_admitted_and_no_others():
    supported = SpecifierSet(PROJECT["requires-python"])
    admitted = [v for v in ("3.10", "3.11.0", "3.12.9", "3.13.0") if v in supported]
    assert admitted == ["3.11.0", "3.12.9"]


def test_sdist_says_that_the_package_has_types(tmp_path, monkeypatch):
    buildapi = pytest.importorskip("flit_core.buildapi", reason="needs the dev extra")
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / buildapi.build_sdist(str(tmp_path))) as sdist:
        names = sdist.getnames()
    top = f"sas_jax-{sas_jax.__version__}"
    assert {f"{top}/sas_jax/py.typed", f"{top}/tests/helpers/typed_script.py"} <= {
        *names
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built by the project's own backend."""
    pytest.importorskip("flit_core.buildapi", reason="needs the dev extra")
    folder = tmp_path_factory.mktemp("wheel")
    script = (
        "import sys; sys.path.insert(0, 'scripts'); import build_backend\n"
        "print(build_backend.build_wheel(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not (ROOT / "sas_jax" / "_commands").exists()
    return folder / done.stdout.strip()


def test_wheel_holds_the_library_and_the_commands(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        info = f"sas_jax-{sas_jax.__version__}.dist-info"
        metadata = file.read(f"{info}/METADATA").decode()
        scripts = file.read(f"{info}/entry_points.txt").decode()
    assert {name.split("/")[0] for name in names} == {"sas_jax", info}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "sas_jax").rglob("*.py")}
    assert sources <= set(names)
    assert "sas_jax/py.typed" in names  # PEP 561: users see our types
    assert "sas_jax/shipped/PointGoal1.zip" in names  # what `sas-jax watch` plays
    assert f"\nVersion: {sas_jax.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "sas-jax=sas_jax.command:main" in scripts.replace(" ", "")
    inside = "sas_jax/_commands/experiments/"
    assert {f"{inside}{name}.py" for name in command.COMMANDS if name != "demo"} <= {
        *names
    }
    assert not [n for n in names if n.startswith(f"{inside}results")]


def test_the_command_runs_from_the_wheel_alone(wheel, tmp_path):
    """From another folder, with the wheel's content as all that there is of ours."""
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    run = "import sys; from sas_jax.command import main; main()"
    for arguments, status, words in [
        (["--help"], 0, ["collect", "sas-jax COMMAND --help"]),
        (["collect", "--help"], 0, ["--policy", "--task"]),
        (["colect"], 2, ["did you mean 'collect'"]),
        (["collect", "--task=PointGaol1"], 2, ["error: unknown task", "'PointGoal1'"]),
    ]:
        done = subprocess.run(
            [sys.executable, "-c", run, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr[-2000:]
        for word in words:
            assert word in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    version = re.search(r"^version: (\S+)$", text, re.MULTILINE).group(1)
    assert Version(version) == Version(sas_jax.__version__)
