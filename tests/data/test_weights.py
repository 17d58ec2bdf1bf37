"""`cwjax weights`: the weights that training uses, as other frameworks take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from cwjax.cli import weights
from cwjax.errors import ConfigError

COUNTS = (60, 25, 15)


def make(file: Path, names: tuple[str, ...]) -> str:
    """A data set of its own test split, whose training file has `COUNTS`."""
    rng = np.random.default_rng(0)
    np.savez(
        file,
        features=rng.normal(size=(sum(COUNTS), 3)),
        labels=np.repeat(np.arange(3), COUNTS),
        test_features=rng.normal(size=(3, 3)),
        test_labels=np.arange(3),
        class_names=np.array(names),
    )
    return f"features:{file}"


@pytest.fixture
def source(tmp_path: Path) -> str:
    return make(tmp_path / "mine.npz", ("l'été", "cat", "dog"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert weights.main(list(arguments)) == 0
    return capsys.readouterr().out


LABELS = np.repeat(np.arange(3), COUNTS)
BALANCED = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)


def test_table(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, source, "--arms", "balanced", "uniform")
    assert [line.split() for line in text.splitlines()[2:5]] == [
        [name, str(count), f"{weight:.4g}", "1"]
        for name, count, weight in zip(("l'été", "cat", "dog"), COUNTS, BALANCED, strict=True)
    ]


def test_json(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    arms = ("balanced", "inverse_power:gamma=0.5")
    found = json.loads(printed(capsys, source, "--arms", *arms, "--format", "json"))
    assert found["class_counts"] == dict(zip(("l'été", "cat", "dog"), COUNTS, strict=True))
    np.testing.assert_allclose([*found["class_weights"]["balanced"].values()], BALANCED, rtol=1e-6)
    root = np.array(list(found["class_weights"]["inverse_power"].values()))
    np.testing.assert_allclose(root / root[0], np.sqrt(60 / np.array(COUNTS)), rtol=1e-6)


def run_recipe(text: str, **names: Any) -> dict[str, Any]:
    """The assignments of a recipe; what needs other frameworks is left out."""
    space: dict[str, Any] = dict(names)
    for line in text.splitlines():
        if " = " in line and "loss = " not in line:
            exec(line, space)
    return space


def test_keras(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, source, "--format", "keras")
    class_weight = run_recipe(text)["class_weight"]
    assert list(class_weight) == [0, 1, 2]
    np.testing.assert_allclose(list(class_weight.values()), BALANCED, rtol=1e-6)


def test_torch(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Torch:
        tensor = staticmethod(np.array)

    text = printed(capsys, source, "--format", "torch")
    np.testing.assert_allclose(run_recipe(text, torch=Torch)["weight"], BALANCED, rtol=1e-6)


@pytest.mark.parametrize("names", [("l'été", "cat", "dog"), ("3", "5", "8")])
def test_scikit_learn_and_boosted_trees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...]
) -> None:
    source = make(tmp_path / "mine.npz", names)
    classes: list[Any] = [int(name) for name in names] if names[0] == "3" else list(names)
    y_train = [classes[label] for label in LABELS]
    space = run_recipe(printed(capsys, source, "--format", "sklearn"))
    expected = compute_sample_weight("balanced", y_train)
    found = compute_sample_weight(space["class_weight"], y_train)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    text = printed(capsys, source, "--format", "sample-weight")
    space = run_recipe(text, y_train=y_train)
    np.testing.assert_allclose(space["sample_weight"], expected, rtol=1e-6)


def test_normalisation(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--format", "json", "--weight-normalization", "classes")
    found = json.loads(printed(capsys, source, *flags))["class_weights"]["balanced"]
    np.testing.assert_allclose(sum(found.values()), 3, rtol=1e-6)


def test_weights_of_other_schemes(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, source, "--arms", "focal:weights=balanced", "--format", "keras")
    assert "the rest of this scheme is not in its weights" in text
    np.testing.assert_allclose(list(run_recipe(text)["class_weight"].values()), BALANCED, rtol=1e-6)
    with pytest.raises(ConfigError, match="'tau_norm' is applied after training"):
        weights.main([source, "--arms", "tau_norm"])


def test_schemes_of_ones_own(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cwjax.arms.arm import SCHEMES

    file = tmp_path / "mine.py"
    file.write_text(
        "from cwjax import scheme, weighted_row\n"
        "@scheme(formula='w', source='me', kind='class_weights')\n"
        "def falling(context):\n"
        "    return weighted_row(context, 1.0 / (1 + context.weight_counts))\n"
    )
    try:
        text = printed(capsys, source, "--schemes", str(file), "--arms", "falling")
    finally:
        SCHEMES.pop("falling", None)
    assert "falling" in text
