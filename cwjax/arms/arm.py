"""What a scheme is: a function whose keyword-only parameters are its settings.

`scheme` registers one; name, settings, defaults and valid ranges are read from the signature
(`cwjax.arms.settings`). An `Arm` is a scheme with all its settings; it is made from text once
(`cwjax.arms.grammar`) and travels as an object.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np

from cwjax.arms.settings import Range, Setting, find_setting, settings_of
from cwjax.config import TrainConfig
from cwjax.errors import ConfigError, suggestion

Kind = Literal["class_weights", "training", "longer", "two_stage", "post_hoc"]
Function = TypeVar("Function", bound=Callable[..., Any])

STAGE_STEPS = 500
"""Optimiser steps that a second stage or a deferred phase has at least, unless settings say less:
fewer leave a method's weights, head or scales near where they began."""

COMMON_SETTINGS = (
    Setting("lr", Range(1e-6, 1e6), 1.0),
    Setting("weight_decay", Range(0, math.inf, "[)"), None),
)
"""What every trained arm takes besides its scheme's own settings: a factor of the learning rate,
and a weight decay instead of the study's (None)."""

_COMMON_NAMES = {setting.name for setting in COMMON_SETTINGS}

TUNED = "best"
"""In an arm's text: a value, as in `gamma=best(0.5,1,2)`, or alone the scheme's standard grid."""


@dataclass(frozen=True)
class Best:
    """The value of a tuned setting: each run takes the one that is best on its validation split."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        return f"{TUNED}({','.join(map(format_value, self.values))})"


LEARNING_RATE_GRID = Best((0.3, 1.0, 3.0))
WEIGHT_DECAY_GRID = Best((0.0, 1e-4, 5e-3))


@dataclass(frozen=True)
class Arm:
    """A scheme with all its settings; `str(arm)` is its canonical name.

    The name leaves out settings at their defaults, so `focal` and `focal:gamma=2.0` are both the
    arm `focal`. A tuned arm has settings that are `Best`: it is not trained, but each of its runs
    is one of its candidates' runs of the same seed.
    """

    scheme: str
    settings: tuple[tuple[str, Any], ...] = ()  # in the order of the signature, defaults filled in

    @property
    def own_settings(self) -> dict[str, Any]:
        """The settings that the scheme's function takes."""
        return {name: value for name, value in self.settings if name not in _COMMON_NAMES}

    @property
    def kind(self) -> Kind:
        """How it works; a `post_hoc` arm is not trained but derived from the uniform arm's run."""
        return SCHEMES[self.scheme].kind

    @property
    def _tuned(self) -> dict[str, Best]:
        return {name: value for name, value in self.settings if isinstance(value, Best)}

    @cached_property
    def candidates(self) -> tuple[Arm, ...]:
        """The arms that a tuned one is chosen from, the last setting varying first; else none."""
        if not self._tuned:
            return ()
        return tuple(
            Arm(self.scheme, tuple((dict(self.settings) | dict(values)).items()))
            for values in itertools.product(
                *([(name, value) for value in best.values] for name, best in self._tuned.items())
            )
        )

    def chosen(self, candidate: Arm) -> dict[str, float]:
        """The tuned settings as a candidate has them."""
        return {name: value for name, value in candidate.settings if name in self._tuned}

    def __str__(self) -> str:
        changed = dict(self._changed())
        if self._tuned:
            fixed = changed.keys() - self._tuned.keys()
            grid = SCHEMES[self.scheme].grid
            if self._tuned == {name: best for name, best in grid.items() if name not in fixed}:
                texts = [f"{name}={text}" for name, text in changed.items() if name in fixed]
                return ":".join([self.scheme, *texts, TUNED])
        return ":".join([self.scheme, *(f"{name}={text}" for name, text in changed.items())])

    def nested(self) -> str:
        """The name as the value of another arm's setting: `effective_number(0.9999)`."""
        values = ",".join(text for _, text in self._changed())
        return f"{self.scheme}({values})" if values else self.scheme

    def _changed(self) -> list[tuple[str, str]]:
        defaults = {setting.name: setting.default for setting in SCHEMES[self.scheme].settings}
        return [
            (name, format_value(value)) for name, value in self.settings if value != defaults[name]
        ]


UNIFORM = Arm("uniform", tuple((setting.name, setting.default) for setting in COMMON_SETTINGS))

NULL_CONTROL = "null_control"
"""Name of the A/A arm: the baseline again, under other random keys."""


def control_name(candidate: str) -> str:
    """The name of a candidate's runs under other random keys, where the baseline is tuned."""
    return f"{NULL_CONTROL}:{candidate}"


class ClassWeightArm:
    """Reader of a class-weight scheme given as a value: `balanced`, `effective_number(0.9999)`."""

    def read(self, text: str) -> Arm:
        """The arm, or ConfigError."""
        match = re.fullmatch(r"([^()]*)(?:\((.*)\))?", text)
        if match is None:
            raise ConfigError("write it as name or name(value), e.g. effective_number(0.9999)")
        name, arguments = match.groups()
        scheme = find_scheme(name, kind="class_weights")
        settings = [setting for setting in scheme.own_settings if setting.name != "drw"]
        values = arguments.split(",") if arguments else []
        if len(values) > len(settings):
            raise ConfigError(f"{name} takes {len(settings)} value(s) in parentheses")
        pairs = zip(settings, values, strict=False)
        return scheme.arm({setting.name: setting.read(value) for setting, value in pairs})


ClassWeights = Annotated[Arm, ClassWeightArm()]


@dataclass(frozen=True)
class Scheme:
    """A registered scheme."""

    name: str
    kind: Kind
    formula: str
    source: str
    own_settings: tuple[Setting, ...]
    function: Callable[..., Any]
    needs_head: bool = False
    weight_decay: float | None = None
    own_grid: tuple[tuple[str, Best], ...] = ()

    @property
    def grid(self) -> dict[str, Best]:
        """The standard grid: nine settings for every trained scheme, so that budgets are equal.

        Three learning rates times three values of what the scheme declares, or of the weight decay.
        """
        if self.kind == "post_hoc":
            return {}
        own = dict(self.own_grid) or {"weight_decay": WEIGHT_DECAY_GRID}
        return own | {"lr": LEARNING_RATE_GRID}

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All that an arm of the scheme takes."""
        if self.kind == "post_hoc":
            return self.own_settings
        rate, decay = COMMON_SETTINGS
        return (*self.own_settings, rate, replace(decay, default=self.weight_decay))

    @property
    def about(self) -> str:
        """What the scheme does, from its function's docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def own_rule(self) -> str | None:
        """SHA-256 (hex) of the source of a scheme that is not cwjax's own; None for those."""
        if self.function.__module__.partition(".")[0] == "cwjax":
            return None
        try:
            source = inspect.getsource(self.function)
        except OSError:  # typed at a prompt
            source = repr(self.function.__code__.co_code)
        return hashlib.sha256(source.encode()).hexdigest()

    def setting(self, name: str) -> Setting:
        """The setting of that name, or ConfigError listing the scheme's settings."""
        return find_setting(self.name, self.settings, name)

    def arm(self, given: Mapping[str, Any]) -> Arm:
        """The arm with these settings, the others at their defaults.

        Raises:
            ConfigError: a setting without a default is missing, or weights are deferred that are
                all 1.
        """
        for setting in self.settings:
            if setting.is_required and setting.name not in given:
                raise ConfigError(f"{self.name} needs {setting.name}=")
        values = {
            setting.name: given.get(setting.name, setting.default) for setting in self.settings
        }
        if values.get("weights") == UNIFORM and "drw" in values:
            drw = given.get("drw", 0)
            if isinstance(drw, Best) or drw > 0:
                raise ConfigError("drw= defers class weights, and weights=uniform has none")
            values["drw"] = self.setting("drw").default  # without a meaning here
        return Arm(self.name, tuple(values.items()))


SCHEMES: dict[str, Scheme] = {}
"""Every scheme by name; see `schemes_in_order`."""


def schemes_in_order(kind: Kind | None = None) -> list[Scheme]:
    """All schemes, or those of one kind; by kind, so that the order of imports does not show."""
    kinds = get_args(Kind) if kind is None else (kind,)
    return [scheme for kind in kinds for scheme in SCHEMES.values() if scheme.kind == kind]


def scheme(
    *,
    formula: str,
    source: str,
    kind: Kind = "training",
    needs_head: bool = False,
    weight_decay: float | None = None,
    grid: Mapping[str, Sequence[float]] | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function as a scheme; its keyword-only parameters are the settings.

    A function of kind `post_hoc` takes `posthoc.RunOutputs` and returns `posthoc.Adjusted`; every
    other takes an `ArmContext` and returns an `ArmRow`. Only `class_weights` schemes can be the
    value of another's `weights=`.

    Args:
        formula: one line, for people.
        source: the paper or library that it is from.
        kind: see `Arm.kind`.
        needs_head: the scheme reads or replaces the model's head, which a module that only
            returns logits does not show.
        weight_decay: default of the setting of that name [default: the study's].
        grid: what `best` tries, e.g. `{"gamma": (0.5, 1, 2)}`, besides three learning rates
            [default: three weight decays]; three values keep budgets equal.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        settings = settings_of(function)
        if taken := _COMMON_NAMES & {setting.name for setting in settings}:
            raise ConfigError(
                f"scheme {name}: every arm has a setting {min(taken)} already: rename it"
            )
        own_grid = tuple(
            (
                key,
                Best(tuple(map(find_setting(name, settings, key).read, map(format_value, values)))),
            )
            for key, values in (grid or {}).items()
        )
        SCHEMES[name] = Scheme(
            name, kind, formula, source, settings, function, needs_head, weight_decay, own_grid
        )
        return function

    return register


def find_scheme(name: str, kind: Kind | None = None) -> Scheme:
    """The scheme of that name (and kind), or ConfigError listing the valid ones."""
    names = [scheme.name for scheme in schemes_in_order(kind)]
    if name not in names:
        listing = ", ".join(names)
        raise ConfigError(f"no scheme {name!r}{suggestion(name, names)}; choose one of {listing}")
    return SCHEMES[name]


def format_value(value: Any) -> str:
    """The canonical text of a setting's value: shortest digits, no trailing `.0`."""
    if isinstance(value, Arm):
        return value.nested()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


@dataclass(frozen=True, eq=False)
class ArmContext:
    """What the row of an arm depends on besides its settings."""

    class_counts: np.ndarray  # int64 [num_classes], counted in the training split
    weight_counts: np.ndarray  # int64 [num_classes], what class weights are computed from
    class_names: tuple[str, ...]
    num_epochs: int  # of the first stage
    normalization: str = "examples"  # of class weights: examples or classes
    weight_decay: float = 0.0  # of arms that do not say
    batch_size: int = TrainConfig.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch on whole batches: a smaller last one not every model uses."""
        return max(1, int(self.class_counts.sum()) // self.batch_size)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_counts)
