"""Frozen dataclasses from and to plain values; dotted overrides; what values may be.

A config checks itself when it is made, in its `__post_init__`: `check` with one rule a
field. So a wrong value is named where it enters, from a flag, from a file or in Python.
"""

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from sas_jax import setting_names
from sas_jax.errors import UserError, nearest

T = TypeVar("T")


# Seeds end in generators of 32 bits; a larger one would be cut in silence.
SEEDS = 2**32


class Rule:
    """What a value must be."""

    def problem(self, value: Any) -> str | None:
        """What it must be instead; None for a value that keeps the rule."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Number(Rule):
    """A finite number within bounds; those of least and most are included.

    whole: integers only. optional: None is allowed.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    whole: bool = False
    optional: bool = False

    def problem(self, value: Any) -> str | None:
        """What a value must be instead; None for one that keeps the rule."""
        if value is None and self.optional:
            return None
        kind: Any = numbers.Integral if self.whole else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"must be {'a whole number' if self.whole else 'a number'}"
        if not math.isfinite(value):
            return "must be finite"
        keeps = (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )
        return None if keeps else self._bounds()

    def _bounds(self) -> str:
        is_open, is_cut = self.above is not None, self.below is not None
        low = self.above if is_open else self.least
        high = self.below if is_cut else self.most
        if low is not None and high is not None:
            return f"must lie in {'[('[is_open]}{low}, {high}{'])'[is_cut]}"
        if low is not None:
            return f"must be {'>' if is_open else '>='} {low}"
        return f"must be {'<' if is_cut else '<='} {high}"


@dataclasses.dataclass(frozen=True)
class Many(Rule):
    """A tuple whose values keep a rule. least: how many there must be."""

    rule: Number
    least: int = 0

    def problem(self, value: Any) -> str | None:
        """What the values must be instead; None for those that keep the rule."""
        if not isinstance(value, (tuple, list)):
            return "must be a tuple"
        if len(value) < self.least:
            return f"must have at least {self.least} of them"
        found = (self.rule.problem(each) for each in value)
        return next((problem for problem in found if problem), None)


@dataclasses.dataclass(frozen=True)
class Choice(Rule):
    """One of some names."""

    names: Collection[str]

    def problem(self, value: Any) -> str | None:
        """What a value must be instead; None for one of the names."""
        if isinstance(value, str) and value in self.names:
            return None
        hint = nearest(value, self.names) if isinstance(value, str) else ""
        return f"must be one of {', '.join(self.names)}{hint}"


def check(config: Any, group: str, rules: Mapping[str, Rule]) -> None:
    """Checks fields of a config, one rule each.

    Args:
      config: the config. group: what its fields are called by, e.g. ``"train"``; "" for
        nothing.
      rules: field -> rule.

    Raises:
      UserError: the first value that breaks its rule: ``train.chunk must be >= 1,
        got -1``.
    """
    for name, rule in rules.items():
        value = getattr(config, name)
        if problem := rule.problem(value):
            place = f"{group}.{name}" if group else name
            raise UserError(f"{place} {problem}, got {value!r}")


def check_seed(seed: Any, name: str = "seed") -> None:
    """Raises UserError for a seed that is no whole number of 32 bits."""
    if problem := Number(least=0, below=SEEDS, whole=True).problem(seed):
        raise UserError(f"{name} {problem}, got {seed!r}")


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
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
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
    if not isinstance(values, dict) and not where:
        raise UserError(f"{cls.__name__}: expected a group of settings")
    if not isinstance(values, dict):
        raise UserError(f"{where}: is a group of settings; set {where}.<name>")
    hints = typing.get_type_hints(cls)
    for name, hint in hints.items():
        if hint is Any and like is not None:
            hints[name] = type(getattr(like, name))
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
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
        if not separator or not path.strip():
            raise UserError(f"setting {setting!r}: expected name=value")
        _put(values, path.strip(), value.strip(), values)
    return from_dict(type(config), values, like=config)


def merge(config: T, given: Mapping[str, Any]) -> T:
    """Applies nested values, as a file has them; dotted names may stand in them.

    Raises:
      UserError: an unknown name, or a value of the wrong type.
    """
    values = to_dict(config)
    for path, value in setting_names.paths(given):
        _put(values, path, value, values)
    return from_dict(type(config), values, like=config)


def _put(group: dict[str, Any], path: str, value: Any, root: dict[str, Any]) -> None:
    """Sets one value by its dotted path; UserError where there is none of that name."""
    *parents, leaf = path.split(".")
    for depth, name in enumerate(parents):
        if not isinstance(group.get(name), dict):
            known = [k for k, v in group.items() if isinstance(v, dict)]
            here = ".".join(parents[: depth + 1])
            near = nearest(name, known) or setting_names.hint(path, root, {})
            raise UserError(f"{here}: no such group{near}")
        group = group[name]
    if leaf not in group:
        near = setting_names.hint(path, root, group)
        raise UserError(f"{path}: no such setting{near}")
    if isinstance(group[leaf], dict):
        raise UserError(f"{path}: is a group of settings; set {path}.<name>")
    group[leaf] = value


def first_difference(left: Any, right: Any, where: str = "") -> str:
    """Dotted path of the first place where two nested values differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(set(left) | set(right)):
            if left.get(key) != right.get(key):
                path = f"{where}.{key}" if where else key
                return first_difference(left.get(key), right.get(key), path)
    return where
