"""What must stay equal from version to version: `python -m tests.golden.make_frozen` writes it.

`frozen.json` was written by code whose results, trained and derived, were those of the first
edition number for number. Write it anew only where a change of these numbers is what is wanted, and
say so in the commit.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from drawn_runs import SWEEP, SWEEP_EFFECTS, write_study

from cwjax.arms.arm import ArmContext
from cwjax.arms.grammar import arm_row, parse_arms, total_epochs
from cwjax.arms.row import uniform_row
from cwjax.arms.sampling import epoch_order, mixing
from cwjax.config import DataConfig
from cwjax.data.sources import load_dataset
from cwjax.data.split import split_dataset
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import to_json
from cwjax.study.derive import compare

FILE = Path(__file__).with_name("frozen.json")
SEEDS = (0, 1, 4_000_000_000)
DATA = {
    "long-tailed": DataConfig(imbalance_factor=50),
    "step": DataConfig(imbalance="step", imbalance_factor=10),
    "permuted": DataConfig(imbalance_factor=8, permute_classes=True),
    "as it is": DataConfig(imbalance="none"),
    "notebook": DataConfig(imbalance="none", protocol="notebook"),
}
ARMS = (
    "all",
    "balanced:drw=0.8",
    "effective_number:beta=0.9999",
    "inverse_power:gamma=2",
    "focal:gamma=1:weights=balanced:drw=0.5",
    "ldam:drw=0:weights=uniform",
    "logit_adjusted:tau=0.5",
    "remix:alpha=0.2:kappa=2",
)
NUM_EPOCHS = 12


def frozen() -> dict[str, Any]:
    """All of it, as JSON holds it."""
    return {
        "splits": splits(),
        "rows": rows(),
        "orders": orders(),
        "mixing": mixed(),
        "derived": derived(),
    }


def digest(array: np.ndarray) -> str:
    """A few digits that stand for all integers of an array, whatever the machine."""
    return hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()[:16]


def splits() -> dict[str, Any]:
    """Of each seed: hashes of its indices, and its class counts."""
    dataset = load_dataset("mnist5k")
    content: dict[str, Any] = {}
    for name, data in DATA.items():
        for seed in SEEDS:
            split = split_dataset(dataset, data, seed)
            content[f"{name}, seed {seed}"] = {
                "train": digest(split.train_indices),
                "validation": digest(split.validation_indices),
                "test": digest(split.test_indices),
                "class_counts": split.class_counts.tolist(),
                "weight_counts": split.weight_counts.tolist(),
            }
    return content


def _context() -> tuple[ArmContext, np.ndarray]:
    dataset = load_dataset("mnist5k")
    split = split_dataset(dataset, DATA["long-tailed"], 0)
    context = ArmContext(
        split.class_counts, split.weight_counts, dataset.class_names, num_epochs=NUM_EPOCHS
    )
    return context, dataset.labels[split.train_indices]


def rows() -> dict[str, Any]:
    """Of each arm: its epochs, and the fields in which its row differs from the neutral one."""
    context, _ = _context()
    neutral = uniform_row(context.num_classes)._asdict()
    content: dict[str, Any] = {}
    specs = [str(arm) for arm in parse_arms(["all"])] + list(ARMS[1:])
    for arm in parse_arms(specs):
        if arm.kind != "post_hoc":
            fields = arm_row(arm, context)._asdict().items()
            changed = {n: v for n, v in fields if not np.array_equal(v, neutral[n])}
            content[str(arm)] = {
                "epochs": total_epochs(arm, NUM_EPOCHS, context.steps_per_epoch),
                **{name: np.asarray(v, np.float64).tolist() for name, v in changed.items()},
            }
    return content


def orders() -> dict[str, str]:
    """Of some arms, seeds and epochs: the hash of the order of the training examples."""
    context, labels = _context()
    content = {}
    for arm in parse_arms(["uniform", "class_balanced_sampling", "progressive_sampling", "crt"]):
        row = arm_row(arm, context)
        for seed in (0, 3, 2**32 + 3):
            for epoch in (0, 7, NUM_EPOCHS):
                if epoch < total_epochs(arm, NUM_EPOCHS, context.steps_per_epoch):
                    order = epoch_order(labels, row, seed=seed, epoch=epoch, num_epochs=NUM_EPOCHS)
                    content[f"{arm}, seed {seed}, epoch {epoch}"] = digest(order)
    return content


def mixed() -> dict[str, Any]:
    """The mixing factors of an epoch and the hash of its partners."""
    context, _ = _context()
    content = {}
    for arm in parse_arms(["mixup", "remix:alpha=0.2"]):
        factors, partners = mixing(
            arm_row(arm, context), seed=3, epoch=2, num_examples=500, batch_size=56
        )
        content[str(arm)] = {"factors": factors.tolist(), "partners": digest(partners)}
    return content


def derived() -> dict[str, Any]:
    """Every number and every word that follows from the runs of two drawn studies."""
    effects = {
        "uniform": 0.0,
        "balanced": 0.6,
        "logit_adjusted": 0.1,
        "balanced_softmax": 0.1,
        "tau_norm": 0.3,
        "focal": -0.2,
    }
    content = {}
    with tempfile.TemporaryDirectory() as folder:
        write_study(
            Path(folder) / "arms",
            effects,
            9,
            null_control=True,
            bad_runs=[("focal", 2)],
            equal_arms={"balanced_softmax": "logit_adjusted"},
            smallest_effect=0.02,
            diverged="drop-pair",
        )
        write_study(Path(folder) / "cells", SWEEP_EFFECTS, 8, data=SWEEP, metric="macro_f1")
        for name in ("arms", "cells"):
            comparison = json.loads(to_json(compare(StudyDirectory(Path(folder) / name))))
            secondary = comparison.pop("secondary")
            if name == "arms":
                comparison["estimates"] = [entry["estimates"] for entry in secondary]
            content[name] = dict(leaves(comparison))
    return content


def leaves(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a JSON document by its place in it."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        inner = f"{place}/{key}"
        if isinstance(value, dict | list) and value:
            yield from leaves(value, inner)
        else:
            yield inner, value


if __name__ == "__main__":
    FILE.write_text(json.dumps(frozen(), indent=0) + "\n", "utf-8")
