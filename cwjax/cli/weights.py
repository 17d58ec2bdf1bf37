"""Prints the class weights of any scheme, as other frameworks take them.

cwjax weights mnist5k --arms balanced inverse_power:gamma=0.5
cwjax weights folder:photos --arms effective_number:beta=0.99 --format keras
cwjax weights table:patients.csv --label-column outcome --format sample-weight

They are computed from the training file as it is. Nothing is trained.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cwjax.cli import command_line
from cwjax.cli.describe import SourceFlags, load
from cwjax.config import SourceConfig, TrainConfig
from cwjax.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from cwjax.arms.arm import Arm
    from cwjax.data.dataset import Dataset

Format = Literal["table", "keras", "torch", "sklearn", "sample-weight", "json"]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is printed."""

    data: SourceFlags
    arms: tuple[str, ...] = ("balanced",)
    """Schemes with their settings, e.g. inverse_power:gamma=0.5,1 (two)."""
    format: Format = "table"
    """table: for people; keras: the dictionary of fit(class_weight=…); torch: the tensor of a loss;
    sklearn: the dictionary of class_weight=…; sample-weight: one weight per example, as XGBoost and
    LightGBM take them; json."""
    weight_normalization: Literal["examples", "classes"] = "examples"
    """Weights average 1 over the training examples (scikit-learn) or over the classes."""
    schemes: Path | None = None
    """Python file with schemes of your own, each decorated with @cwjax.scheme."""
    settings: SourceConfig = field(default_factory=SourceConfig)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    Args:
        arguments: what follows its name [default: the process's].
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    flags = command_line.parse(Flags, __doc__, "weights", arguments)

    from cwjax.arms.grammar import load_schemes, parse_arms

    if flags.schemes is not None:
        load_schemes(flags.schemes)
    arms = parse_arms(flags.arms)
    dataset = load(flags.data, flags.settings)
    weights = {arm: class_weights(arm, dataset, flags.weight_normalization) for arm in arms}
    if flags.format == "table":
        _print_table(dataset, weights)
    elif flags.format == "json":
        print(_json(dataset, weights))
    else:
        print("\n\n".join(recipe(flags.format, arm, w, dataset) for arm, w in weights.items()))
    return 0


def class_weights(arm: Arm, dataset: Dataset, normalization: str = "examples") -> np.ndarray:
    """The class weights that an arm would train with on the whole training file.

    Args:
        arm: any that is trained.
        dataset: loaded.
        normalization: `examples` or `classes`.

    Returns:
        float32 `[num_classes]`.

    Raises:
        ConfigError: the arm has no class weights, or they cannot be computed.
    """
    from cwjax.arms.arm import ArmContext
    from cwjax.arms.grammar import arm_row

    if arm.kind == "post_hoc":
        raise ConfigError(f"arm {str(arm)!r} is applied after training: it has no class weights")
    if arm.candidates:
        raise ConfigError(f"arm {str(arm)!r} is tuned: give plain values, it has no weights before")
    context = ArmContext(
        class_counts=dataset.train_counts,
        weight_counts=dataset.train_counts,
        class_names=dataset.class_names,
        num_epochs=TrainConfig().num_epochs,
        normalization=normalization,
    )
    weights: np.ndarray = arm_row(arm, context).class_weights
    return weights


def recipe(format: Format, arm: Arm, weights: np.ndarray, dataset: Dataset) -> str:
    """A few lines of Python that use the weights.

    Args:
        format: of which framework.
        arm: whose weights these are.
        weights: `[num_classes]`.
        dataset: names the classes.
    """
    names, numbers = dataset.class_names, [_number(weight) for weight in weights]
    by_index = ", ".join(f"{label}: {number}" for label, number in enumerate(numbers))
    by_name = ", ".join(f"{_key(n, names)}: {w}" for n, w in zip(names, numbers, strict=True))
    order = ascii(list(names))
    note = "" if arm.kind == "class_weights" else "; the rest of this scheme is not in its weights"
    head = f"# {arm}: weights of {dataset.name}{note}"
    body = {
        "keras": [
            f"# classes 0 to {len(names) - 1}: {order}",
            f"class_weight = {{{by_index}}}",
            "model.fit(x_train, y_train, class_weight=class_weight)",
        ],
        "torch": [
            f"# classes 0 to {len(names) - 1}: {order}",
            f"weight = torch.tensor([{', '.join(numbers)}])",
            "loss = torch.nn.CrossEntropyLoss(weight=weight)  # divides by the batch's sum of them",
        ],
        "sklearn": [
            f"class_weight = {{{by_name}}}",
            "RandomForestClassifier(class_weight=class_weight).fit(X_train, y_train)",
        ],
        "sample-weight": [
            f"class_weight = {{{by_name}}}",
            "sample_weight = [class_weight[label] for label in y_train]",
            "XGBClassifier().fit(X_train, y_train, sample_weight=sample_weight)",
            "LGBMClassifier().fit(X_train, y_train, sample_weight=sample_weight)",
        ],
    }[format]
    return "\n".join([head, *body])


def _number(weight: np.floating) -> str:
    """The shortest digits that are this float32."""
    return str(weight)


def _key(name: str, names: Sequence[str]) -> str:
    """A class as scikit-learn's `y` has it: a number where all are."""
    return name if all(each.isdecimal() and each.isascii() for each in names) else ascii(name)


def _json(dataset: Dataset, weights: dict[Arm, np.ndarray]) -> str:
    content = {
        "dataset": dataset.name,
        "class_counts": dict(zip(dataset.class_names, dataset.train_counts.tolist(), strict=True)),
        "class_weights": {
            str(arm): {
                name: float(_number(weight))
                for name, weight in zip(dataset.class_names, of_arm, strict=True)
            }
            for arm, of_arm in weights.items()
        },
    }
    return json.dumps(content, indent=2)


def _print_table(dataset: Dataset, weights: dict[Arm, np.ndarray]) -> None:
    from cwjax.report import terminal
    from cwjax.report.tables import Table

    rows = [
        (
            name,
            f"{dataset.train_counts[label]:,}",
            *(f"{of_arm[label]:.4g}" for of_arm in weights.values()),
        )
        for label, name in enumerate(dataset.class_names)
    ]
    table = Table("", ("class", "examples", *map(str, weights)), tuple(rows))
    terminal.say_table(table)
    terminal.say("--format keras, torch, sklearn, sample-weight or json prints them as code")
