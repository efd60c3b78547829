"""Runs an absl main so that bad input is one line on stderr and exit status 2."""

import logging
import os
import sys
import warnings
from collections.abc import Callable

from absl import app, flags

from sas_jax.config import SEEDS
from sas_jax.envs import imports
from sas_jax.errors import UserError
from sas_jax.files import places


def _fail(message: object) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


class _PathParser(flags.ArgumentParser):
    """A path, or a URL of a bucket; `~` and `~name` are home folders."""

    def __init__(self, is_local: bool):
        """is_local: refuse URLs."""
        self._is_local = is_local
        self.syntactic_help = "a path" if is_local else "a path or a bucket's URL"

    def parse(self, argument: str) -> str:
        """Expands the home folder; ValueError where there is none, or for the URL."""
        if places.is_url(argument) and self._is_local:
            raise ValueError(
                "expected a path of this machine: this writes many small files as it "
                "goes; copy them to the bucket afterwards"
            )
        if places.is_url(argument):
            return places.known_url(argument)
        if not _is_unicode(argument):
            raise ValueError(
                "this Python reads arguments as "
                f"{sys.getfilesystemencoding()}; expected PYTHONUTF8=1 in the "
                "environment, for paths like this one"
            )
        path = os.path.expanduser(argument)
        if path.startswith("~") and not os.path.exists(path):
            raise ValueError(
                "no home folder is known for it; expected a path that is written out"
            )
        return path


def _is_unicode(text: str) -> bool:
    """False for what Python could not decode, and kept as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def define_path(
    name: str, default: str | None, text: str, *, is_local: bool = False
) -> flags.FlagHolder:
    """A flag whose value is a path, with home folders expanded.

    Args:
      name, default: of the flag. text: its help.
      is_local: whether it must be of this machine, and no URL.
    """
    # A keyword, as absl keeps one parser for equal positional arguments.
    parser, serializer = _PathParser(is_local=is_local), flags.ArgumentSerializer()
    return flags.DEFINE(parser, name, default, text, serializer=serializer)


def define_seed(name: str, default: int, text: str) -> flags.FlagHolder:
    """A flag whose value is a seed, of 32 bits. text: its help."""
    return flags.DEFINE_integer(
        name, default, text, lower_bound=0, upper_bound=SEEDS - 1
    )


def check_apart(first, episodes: int, other, others: int) -> None:
    """Raises UserError where the layouts of two seed flags are partly the same.

    first, other: the flags; episodes, others: layouts from each of them on.
    """
    if first.value < other.value + others and other.value < first.value + episodes:
        raise UserError(
            f"--{other.name}={other.value}: its {others} layouts are partly those of "
            f"--{first.name}={first.value}; expected others"
        )


def parse_limits(
    texts: list[str] | None, default: tuple[float, ...]
) -> tuple[float, ...]:
    """Cost thresholds from the parts of --cost_limits; None means the default."""
    if texts is None:
        return tuple(float(x) for x in default)
    try:
        return tuple(float(text) for text in texts)
    except ValueError as error:
        raise UserError(
            f"--cost_limits: {error}; expected numbers, e.g. 20,40"
        ) from error


def _one_line(message, category, filename, lineno, line=None) -> str:
    """Our own warnings without the place in the code that they come from."""
    if category.__module__.startswith("sas_jax"):
        return f"warning: {message}\n"
    return _format_warning(message, category, filename, lineno, line)


_IMPORT = flags.DEFINE_list(
    "import", [], "Modules of your own to import first: they register tasks, learners."
)
_format_warning = warnings.formatwarning


def _show(message, category, filename, lineno, file=None, line=None) -> None:
    """A warning on a line of its own, whatever bars are being drawn."""
    text = warnings.formatwarning(message, category, filename, lineno, line)
    bars = sys.modules.get("tqdm")
    if bars is None or file is not None:
        print(text, end="", file=file or sys.stderr)
    else:
        bars.tqdm.write(text, file=sys.stderr, end="")


def _parse(argv: list[str]) -> list[str]:
    """Parses flags as absl does, with errors in our form."""
    _print_anything()
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(" ".join(str(error).split()))


def _print_anything() -> None:
    """What a terminal cannot show is printed as its number, never an exception."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _reach_buckets() -> None:
    """UserError now for a URL whose client is not installed, not after the work."""
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if isinstance(flag.parser, _PathParser) and flag.value:
            try:
                places.as_path(flag.value)
            except UserError as error:
                raise UserError(f"--{name}: {error}") from error


def _missing_platform() -> str | None:
    """Why the platform that $JAX_PLATFORMS names cannot be used; None if it can."""
    wanted, jax = os.environ.get("JAX_PLATFORMS"), sys.modules.get("jax")
    if not wanted or jax is None:
        return None
    try:
        jax.devices()
    # JAX asserts, or raises RuntimeError, according to what is missing.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or "no such devices"
        return (
            f"JAX_PLATFORMS={wanted}: JAX finds no such device ({reason}); expected a "
            "platform of this machine, such as cpu"
        )
    return None


_HELP = ("--help", "-help", "-h", "--helpshort", "-?")


def answer_help(name: str, doc: str) -> None:
    """Where --help is asked for: prints it and ends with status 0.

    Entry points call this between their flags and the imports that take seconds.

    Args:
      name, doc: the module's `__name__` and `__doc__`; anything but a main module has
        nobody to answer.
    """
    if name != "__main__" or not set(_HELP) & set(sys.argv[1:]):
        return
    _print_anything()
    print(doc.strip(), "\n\nFlags:")
    for name in sorted(flags.FLAGS):
        flag, module = flags.FLAGS[name], flags.FLAGS.find_module_defining_flag(name)
        # absl's own are for those who ask for --helpfull.
        if (module or "").startswith("absl") or name != flag.name:
            continue
        default = f" (default: {_said(flag)})"
        default = "" if flag.default in (None, "", []) else default
        print(f"  --{name}: {flag.help}{default}")
    sys.exit(0)


def _said(flag: flags.Flag) -> str:
    """A flag's default as it would be written."""
    if isinstance(flag.default, list):
        return ",".join(map(str, flag.default))
    return str(flag.default).lower() if flag.boolean else str(flag.default)


def run(main: Callable[[list[str]], object], *, resumes: bool = False) -> None:
    """Runs `main` under absl; `UserError` becomes one line and exit status 2.

    Args:
      main: gets the arguments that are no flags.
      resumes: whether an interrupted run goes on when it is started again; only then
        is that promised.
    """

    def guarded(argv):
        # JAX tells at level INFO of every accelerator that is not there.
        logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
        warnings.formatwarning, warnings.showwarning = _one_line, _show
        if len(argv) > 1:
            _fail(f"unexpected argument {argv[1]!r}; use --flag=value")
        try:
            _reach_buckets()
            # Not through the holder: a caller may have parsed no flags.
            imports.import_modules(flags.FLAGS["import"].value)
            main(argv)
        except UserError as error:
            _fail(error)
        except KeyboardInterrupt:
            then = "run the same command again to resume"
            then = then if resumes else "the same command starts from the beginning"
            print(f"interrupted; {then}", file=sys.stderr)
            sys.exit(130)
        except Exception:
            if (message := _missing_platform()) is None:
                raise
            _fail(message)

    app.run(guarded, flags_parser=_parse)
