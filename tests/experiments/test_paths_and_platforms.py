"""Paths, terminals and devices as users have them, at every entry point's door."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags

from experiments import cli
from tests.helpers.entry_points import ROOT

SCRIPT = """
import sys
from absl import flags
from experiments import cli
out = cli.define_path("out", "there", "Where.")
def main(argv):
    print("out:", out.value)
    if "--devices" in sys.argv[0]:
        import jax.numpy
        print(jax.numpy.zeros(2))
sys.argv[0] = sys.argv[1]
del sys.argv[1]
cli.run(main)
"""


def run(*arguments, name="x", **environment):
    known = {k: v for k, v in os.environ.items() if k not in environment}
    wanted = {k: v for k, v in environment.items() if v is not None}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, *arguments],
        cwd=ROOT,
        env=known | wanted,
        capture_output=True,
        timeout=120,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()[-2000:]
    return done


@pytest.fixture
def parse():
    return cli._PathParser(is_local=False).parse


def test_home_folders_are_expanded(parse, monkeypatch):
    monkeypatch.setenv("HOME", "/here/lives")
    assert parse("~/runs/a") == "/here/lives/runs/a"
    assert parse("~") == "/here/lives"
    assert parse("a/~b") == "a/~b" and parse("") == ""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nobody_of_this_name/runs", "no home folder is known"),
        ("ftp://host/runs", "expected a path of this machine, or a URL of gs://"),
        ("runs/\udcfc", "expected PYTHONUTF8=1"),
    ],
)
def test_paths_that_would_make_odd_folders(parse, path, message):
    with pytest.raises(ValueError, match=message):
        parse(path)


def test_urls_of_buckets(parse):
    assert parse("gs://bucket/runs") == "gs://bucket/runs"
    with pytest.raises(ValueError, match="this writes many small files as it goes"):
        cli._PathParser(is_local=True).parse("gs://bucket/runs")


def test_no_entry_point_takes_a_path_as_plain_text():
    """Every flag that names a file or a folder is made by `define_path`."""
    words = r"workdir|checkpoint|out|results|tokens|critic|reference|data"
    for file in pathlib.Path(ROOT / "experiments").rglob("*.py"):
        plain = re.findall(rf'DEFINE_string\(\s*"({words})"', file.read_text())
        # plot's reference is a variant's name.
        allowed = ["reference"] if file.name == "plot.py" else []
        assert plain == allowed, file


def test_a_user_without_home_and_a_url_at_the_door():
    done = run("--out=~/x", HOME="/some/home")
    assert done.stdout == b"out: /some/home/x\n"
    done = run("--out=ftp://host/x")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"error: flag --out=ftp://host/x: ")
    done = run("--out=az://bucket/x")
    if importlib.util.find_spec("adlfs") is None:
        assert done.stderr.startswith(b"error: --out: az://bucket/x: az:// needs pack")
        assert done.returncode == 2 and done.stdout == b""


def test_seeds_are_of_32_bits(monkeypatch):
    values = flags.FlagValues()
    monkeypatch.setattr(cli.flags, "DEFINE_integer", partial_define(values))
    cli.define_seed("seed", 3, "Of all.")
    assert values(["x", "--seed=4294967295"]) and values.seed == 2**32 - 1
    for wrong in ("-1", "4294967296", "1.5"):
        with pytest.raises(flags.IllegalFlagValueError):
            values(["x", f"--seed={wrong}"])


def partial_define(values):
    define = flags.DEFINE_integer
    return lambda *args, **kwargs: define(*args, flag_values=values, **kwargs)


def test_an_ascii_terminal():
    done = run("--out=/there/\u00fc", PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.returncode == 0 and done.stdout == b"out: /there/\\xfc\n"
    done = run("--out=/there/\u00fc", LC_ALL="C", PYTHONUTF8="0")
    assert done.returncode == 2 and b"expected PYTHONUTF8=1" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "rocket"])
def test_a_platform_that_is_not_there(platform):
    done = run(name="--devices", JAX_PLATFORMS=platform)
    if done.returncode == 0:
        pytest.skip(f"this machine has {platform}")
    lines = done.stderr.decode().splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    assert done.returncode == 2 and len(errors) == 1
    assert errors[0].startswith(f"error: JAX_PLATFORMS={platform}: JAX finds no such")


@pytest.mark.parametrize(
    ("resumes", "promise"),
    [(True, "run the same command again to resume"), (False, "from the beginning")],
)
def test_what_is_said_after_an_interrupt(monkeypatch, capsys, resumes, promise):
    """Only what resumes says so."""

    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.app, "run", lambda main, **_: main(["x"]))
    with pytest.raises(SystemExit) as error:
        cli.run(interrupted, resumes=resumes)
    assert error.value.code == 130
    assert promise in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    """Devices are there, so an exception is not blamed on them."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert cli._missing_platform() is None
