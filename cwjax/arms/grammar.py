"""The grammar of arms, and from an arm to its row.

`name(:key=value[,value…])*`: several values make several arms, e.g. `logit_adjusted:tau=0.5,1,2`; a
    value may be a class-weight scheme, e.g. `focal:weights=effective_number(0.9999)`; `all` is
    every scheme at its defaults, `standard` are those of `STANDARD_ARMS`.
`key=best(value,…)` makes one tuned arm, and `best` alone, as in `focal:best`, tunes by the scheme's
    standard grid what is not given.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cwjax.arms import posthoc, schemes  # noqa: F401  (they register their schemes)
from cwjax.arms.arm import (
    COMMON_SETTINGS,
    SCHEMES,
    TUNED,
    Arm,
    ArmContext,
    Best,
    find_scheme,
    format_value,
    schemes_in_order,
)
from cwjax.arms.class_weights import check_class_counts
from cwjax.arms.row import MAY_BE_INFINITE, ArmRow, replace
from cwjax.arms.settings import Setting, key_values
from cwjax.errors import ConfigError, one_line

ALL, STANDARD = "all", "standard"
STANDARD_ARMS = (
    "uniform",
    "balanced",
    "inverse_power",
    "logit_adjusted",
    "ldam",
    "class_balanced_sampling",
    "crt",
    "posthoc_logit_adjusted",
)
"""One arm of each idea: weights, mild weights, the prior in the loss, margins with deferred
weights, sampling, two stages, a correction afterwards; what is mostly a variant of one is not here,
nor what is not made for imbalance (focal, smoothing, mixing)."""

_COMMA_OUTSIDE_PARENTHESES = r",(?![^()]*\))"


def parse_arms(specs: Sequence[str], *, tune: bool = False) -> tuple[Arm, ...]:
    """The arms of a command line, in its order.

    Args:
        specs: texts of the grammar above, at least one.
        tune: take every arm that is trained and has no `best` as if it ended in `:best`.

    Raises:
        ConfigError: an unknown scheme or setting, a value out of range, an arm given twice (a typo
            would hide
            otherwise); one line that names it and what is valid.
    """
    origins: dict[Arm, str] = {}
    for spec in specs:
        for arm in _expand(spec, tune=tune):
            if arm in origins:
                where = spec if origins[arm] == spec else f"{origins[arm]} and {spec}"
                raise ConfigError(f"arm {str(arm)!r} is given twice, by {where}: leave one out")
            origins[arm] = spec
    if not origins:
        raise ConfigError("no arms: give at least one, e.g. uniform balanced")
    return tuple(origins)


def parse_arm(spec: str) -> Arm:
    """The one arm of a text; ConfigError where it is none, several, or wrong."""
    arms = parse_arms([spec])
    if len(arms) > 1:
        raise ConfigError(f"arm {spec!r} stands for {len(arms)} arms: give a single one")
    return arms[0]


def load_schemes(file: Path) -> None:
    """Runs a Python file, in which `@cwjax.scheme` registers schemes of the user's own.

    Raises:
        ConfigError: it cannot be run, or registers nothing; with the reason in one line.
    """
    known = dict(SCHEMES)
    spec = importlib.util.spec_from_file_location(f"schemes_of_{file.stem}", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"--schemes {file}: no such Python file: give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # inspect finds the source by it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"--schemes {file}: {one_line(error)}") from error
    if known == SCHEMES:
        raise ConfigError(f"--schemes {file} registers no scheme: decorate one with @cwjax.scheme")
    replaced = [name for name, entry in known.items() if SCHEMES[name] is not entry]
    if replaced:
        raise ConfigError(f"--schemes {file} defines {replaced[0]} again: give it another name")


def arm_row(arm: Arm, context: ArmContext) -> ArmRow:
    """The arrays that one run of the arm is trained with.

    Args:
        arm: any but a post-hoc or a tuned arm.
        context: counts, class names and epochs of the run.

    Raises:
        ConfigError: a class without a training example, custom weights that do not fit the classes,
            or settings that overflow float32.
        ValueError: a post-hoc or a tuned arm.
    """
    if arm.candidates:
        raise ValueError(f"{arm} is not trained: its candidates are")
    if arm.kind == "post_hoc":
        raise ValueError(f"{arm} is not trained: apply_post_hoc derives it from the uniform run")
    try:
        check_class_counts(context.class_counts, context.class_names)
        check_class_counts(context.weight_counts, context.class_names)
        with np.errstate(over="ignore"):  # the check below says it better
            row: ArmRow = SCHEMES[arm.scheme].function(context, **arm.own_settings)
            row = replace(row, **_common_fields(arm, context))
        for field, leaf in row._asdict().items():
            if field not in MAY_BE_INFINITE and not np.isfinite(leaf).all():
                raise ConfigError(f"its {field} is not finite in float32; give smaller settings")
    except ConfigError as error:
        raise ConfigError(f"arm {str(arm)!r}: {error}") from None
    return row


def _common_fields(arm: Arm, context: ArmContext) -> dict[str, float]:
    """Row fields of the settings that every arm takes."""
    settings = dict(arm.settings)
    weight_decay = settings["weight_decay"]
    return {
        "learning_rate_factor": settings["lr"],
        "weight_decay": context.weight_decay if weight_decay is None else weight_decay,
    }


def total_epochs(arm: Arm, num_epochs: int, steps_per_epoch: int) -> int:
    """Epochs that a run of the arm trains, those of a second stage included.

    A second stage has at least one, its share `epochs=` of the first stage's, and as many as
    `min_steps=` take.

    Args:
        arm: any arm.
        num_epochs: epochs of the first stage.
        steps_per_epoch: optimiser steps of an epoch.
    """
    if arm.kind not in ("two_stage", "longer"):
        return num_epochs
    settings = dict(arm.settings)
    share, min_steps = float(settings["epochs"]), float(settings.get("min_steps", 0))
    return num_epochs + max(1, round(share * num_epochs), math.ceil(min_steps / steps_per_epoch))


class ArmDescription(NamedTuple):
    """A line of the list of schemes."""

    name: str
    formula: str
    settings: str  # with their defaults, as one would type them
    source: str
    about: str  # what it does and what its settings mean
    grid: str  # what `best` stands for


def list_arms() -> tuple[ArmDescription, ...]:
    """Every scheme: class weights, then other training, two stages, post hoc."""
    return tuple(
        ArmDescription(
            scheme.name,
            scheme.formula,
            ":".join(
                f"{setting.name}={_default_text(setting.default, setting.is_required)}"
                for setting in scheme.settings
                if setting not in COMMON_SETTINGS
            ),
            scheme.source,
            scheme.about,
            ":".join(f"{name}={best}" for name, best in scheme.grid.items()),
        )
        for scheme in schemes_in_order()
    )


def _default_text(default: Any, is_required: bool) -> str:
    return "" if is_required or default is None else format_value(default)


def _expand(spec: str, *, tune: bool) -> Iterator[Arm]:
    """The arms of one text: the product of the values of its settings."""
    if spec in (ALL, STANDARD):
        for scheme in schemes_in_order() if spec == ALL else map(find_scheme, STANDARD_ARMS):
            if not any(setting.is_required for setting in scheme.settings):
                yield scheme.arm(scheme.grid if tune else {})
        return
    try:
        name, *parts = spec.split(":")
        scheme = find_scheme(name)
        choices: dict[str, list[Any]] = {}
        for key, values in key_values(part for part in parts if part != TUNED):
            texts = re.split(_COMMA_OUTSIDE_PARENTHESES, values)
            choices[key] = [_read(scheme.setting(key), text) for text in texts]
        own_best = any(isinstance(value, Best) for each in choices.values() for value in each)
        if scheme.kind == "post_hoc" and (own_best or TUNED in parts):
            raise ConfigError(f"{name} is not trained, so nothing is tuned: leave out {TUNED}")
        if TUNED in parts or (tune and not own_best):
            choices = {key: [best] for key, best in scheme.grid.items()} | choices
        for values_of_arm in itertools.product(*choices.values()):
            yield scheme.arm(dict(zip(choices, values_of_arm, strict=True)))
    except ConfigError as error:
        raise ConfigError(f"arm {spec!r}: {error}") from None


def _read(setting: Setting, text: str) -> Any:
    """The value of a setting, or ConfigError; `best(…)` of numbers is one as well."""
    match = re.fullmatch(rf"{TUNED}\((.*)\)", text)
    if match is None:
        return setting.read(text)
    values = tuple(setting.read(part) for part in match[1].split(","))
    if not all(isinstance(value, int | float) for value in values):
        raise ConfigError(
            f"{setting.name}={text!r}: {TUNED}() is of numbers; without it, each value is an arm"
        )
    if len(values) < 2 or len(set(values)) < len(values):
        raise ConfigError(f"{setting.name}={text!r}: give {TUNED}() at least two values, each once")
    return Best(values)
