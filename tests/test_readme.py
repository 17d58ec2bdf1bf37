"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cwjax.analysis.power import seeds_floor
from cwjax.methods import schemes
from cwjax.methods.arms import arm_row, parse_arms
from cwjax.methods.registry import SCHEMES, ArmContext

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_a_scheme_of_your_own() -> None:
    code = re.search(r"```python\n(@scheme.*?)```", README, re.DOTALL)
    assert code is not None
    try:
        exec(code[1], dict(vars(schemes)))
        arms = parse_arms(["enet:offset=1.02,1.1"])
        assert [str(arm) for arm in arms] == ["enet", "enet:offset=1.1"]
        counts = np.array([90, 9, 1])
        context = ArmContext(counts, counts, ("a", "b", "c"), num_epochs=5)
        weights = arm_row(arms[0], context).class_weights
        expected = 1 / np.log(1.02 + counts / 100)
        np.testing.assert_allclose(weights, expected * 100 / (counts * expected).sum(), rtol=1e-6)
    finally:
        SCHEMES.pop("enet", None)


def test_seeds_that_a_verdict_needs() -> None:
    numbers = "6 seeds for one comparison, 7 for two, 9 for ten"
    assert numbers in README
    assert [seeds_floor(m) for m in (1, 2, 10)] == [6, 7, 9]
