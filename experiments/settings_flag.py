"""The flags --set, --config and --list_settings: one reading of settings everywhere."""

import json
import sys
import tomllib
from collections.abc import Mapping
from typing import Any

from absl import flags

from experiments import cli
from sas_jax import setting_names
from sas_jax.errors import UserError

_SET = flags.DEFINE_multi_string(
    "set", [], "Dotted setting, e.g. --set=sas.num_first=10. May be repeated."
)
_CONFIG = cli.define_path(
    "config", None, "TOML or JSON file of settings; --set comes after it."
)
_LIST = flags.DEFINE_bool(
    "list_settings", False, "Print all settings and their values, and end."
)


def is_listing() -> bool:
    """Whether settings are to be listed, and nothing else done."""
    return _LIST.value


def texts() -> list[str]:
    """What --set says, as it stands."""
    return list(_SET.value)


def from_file() -> dict[str, Any]:
    """Nested values of --config; empty without it.

    Raises:
      UserError: see `read`.
    """
    return read(_CONFIG.value, "--config") if _CONFIG.value else {}


def read(path: str, flag: str) -> dict[str, Any]:
    """Nested values of a TOML or JSON file.

    flag: that named the file, for messages.

    Raises:
      UserError: no such file, or neither TOML nor JSON.
    """
    from sas_jax.files import places

    path = places.as_path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{flag}: {path}: cannot be read ({reason})") from error
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        reason = " ".join(str(error).split())
        raise UserError(f"{flag}: {path}: is no {kind} ({reason})") from error
    if not isinstance(values, dict):
        raise UserError(f"{flag}: {path}: expected a group of settings")
    return values


def refuse_others(only: str, given: Mapping[str, Any] | None = None) -> None:
    """Raises UserError for a setting without the prefix `only`, such as "sas.".

    given: what `from_file` says; None reads it.
    """
    given = from_file() if given is None else given
    named = [(path, f"{path} in --config") for path, _ in setting_names.paths(given)]
    named += [(text.partition("=")[0], f"--set={text}") for text in _SET.value]
    for path, said in named:
        if not path.startswith(only):
            raise UserError(f"{said}: only {only}* can change after training")


def apply(config: Any, *, merge=None, override=None, only: str = "") -> Any:
    """The settings with those of --config and then --set; ends after --list_settings.

    Args:
      config: what the flags change.
      merge, override: functions of (config, values); None means those of an experiment
        in `learners`.
      only: prefix that the settings must have, such as "sas."; the others cannot be
        changed any more.

    Raises:
      UserError: a setting that there is not, of a wrong type, or that cannot change.
    """
    from sas_jax import config as config_lib

    if merge is None or override is None:
        from sas_jax import learners

        merge, override = learners.merge, learners.override
    given = from_file()
    refuse_others(only, given)
    if given:
        config = merge(config, given)
    config = override(config, _SET.value)
    if _LIST.value:
        print(listing(config_lib.to_dict(config)))
        sys.exit(0)
    return config


def listing(values: Mapping[str, Any]) -> str:
    """All settings, one a line, as --set takes them."""
    return "\n".join(
        f"{path}={_text(value)}" for path, value in setting_names.paths(values)
    )


def changes(config: Any, default: Any) -> str:
    """The settings that differ from the defaults, one a line; "" where none does."""
    from sas_jax import config as config_lib

    before = dict(setting_names.paths(config_lib.to_dict(default)))
    return "\n".join(
        f"  {path}={_text(value)}"
        for path, value in setting_names.paths(config_lib.to_dict(config))
        if before.get(path) != value
    )


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value)
