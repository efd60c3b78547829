"""Frozen dataclasses from and to plain values; dotted overrides, types checked."""

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

from sas_jax.errors import UserError, nearest

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict of a config; `from_dict` is its inverse."""
    return dataclasses.asdict(config)


def _convert(value: Any, annotation: Any, where: str) -> Any:
    """Checks `value` (maybe text from a flag) against a field's type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            if type(None) in arguments:
                return None
        inner = [a for a in arguments if a is not type(None)]
        return _convert(value, inner[0], where)
    if origin is tuple:
        if isinstance(value, str):
            parts = (part.strip() for part in value.strip("()[] ").split(","))
            value = [part for part in parts if part]
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where}: expected a comma-separated list, got {value!r}")
        return tuple(_convert(v, arguments[0], where) for v in value)
    if annotation is Any:
        return value
    if dataclasses.is_dataclass(annotation):
        return from_dict(annotation, value, where)
    if annotation is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
            return value.lower() in ("true", "1")
    elif annotation in (int, float):
        if isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                try:
                    value = float(value)
                except ValueError:
                    pass
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if annotation is float and not math.isnan(value):
                return float(value)
            if math.isfinite(value) and value == int(value):
                return int(value)
    elif annotation is str and isinstance(value, str):
        return value
    name = getattr(annotation, "__name__", str(annotation))
    raise UserError(f"{where}: expected {name}, got {value!r}")


def from_dict(
    cls: type[T], values: dict[str, Any], where: str = "", *, like: T | None = None
) -> T:
    """Builds `cls` from a nested dict; absent fields keep their defaults.

    Args:
      where: dotted path of `values`, for messages.
      like: what fields without a type of their own (`Any`) take theirs from; without
        it they are kept as they are.

    Raises:
      UserError: an unknown name (the nearest one is offered) or a wrong type.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: is a group of settings; set {where}.<name>")
    hints = typing.get_type_hints(cls)
    for name, hint in hints.items():
        if hint is Any and like is not None:
            hints[name] = type(getattr(like, name))
    names = [field.name for field in dataclasses.fields(cls)]
    out = {}
    for name, value in values.items():
        path = f"{where}.{name}" if where else name
        if name not in names:
            raise UserError(f"{path}: no such setting{nearest(name, names)}")
        out[name] = _convert(value, hints[name], path)
    try:
        return cls(**out)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where or cls.__name__}: {error}") from error


def override(config: T, settings: list[str]) -> T:
    """Applies `"model.decoder.width=256"` style settings to a nested frozen config.

    Raises:
      UserError: no "=", an unknown name, or a value of the wrong type.
    """
    values = to_dict(config)
    for setting in settings:
        path, separator, value = setting.partition("=")
        if not separator:
            raise UserError(f"setting {setting!r}: expected name=value")
        group = values
        *parents, leaf = path.strip().split(".")
        for depth, name in enumerate(parents):
            if not isinstance(group.get(name), dict):
                known = [k for k, v in group.items() if isinstance(v, dict)]
                here = ".".join(parents[: depth + 1])
                raise UserError(f"{here}: no such group{nearest(name, known)}")
            group = group[name]
        if leaf not in group:
            raise UserError(f"{path}: no such setting{nearest(leaf, group)}")
        if isinstance(group[leaf], dict):
            raise UserError(f"{path}: is a group of settings; set {path}.<name>")
        group[leaf] = value.strip()
    return from_dict(type(config), values, like=config)
