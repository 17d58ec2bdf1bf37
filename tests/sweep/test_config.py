"""The cells that a sweep's axes span."""

from __future__ import annotations

import pytest

from cwjax.config import TrainConfig
from cwjax.errors import ConfigError
from cwjax.sweep.config import SweepConfig


def test_every_data_set_profile_and_factor_is_a_cell_with_the_same_design() -> None:
    config = SweepConfig(
        dataset=("mnist5k", "npz:data/my digits.npz"),
        imbalance=("none", "step"),
        imbalance_factor=(10, 2.5),
        permute_classes=True,
        train=TrainConfig(num_epochs=3),
        arms=("balanced",),
        num_seeds=4,
    )
    cells = config.cells()
    assert list(cells) == [
        "mnist5k-none",
        "mnist5k-step-10",
        "mnist5k-step-2.5",
        "my_digits-none",
        "my_digits-step-10",
        "my_digits-step-2.5",
    ]
    for cell in cells.values():
        assert (cell.train.num_epochs, cell.arms, cell.num_seeds) == (3, ("uniform", "balanced"), 4)
    assert cells["mnist5k-step-10"].data.permute_classes
    assert not cells["mnist5k-none"].data.permute_classes  # there it would have no effect
    assert cells["my_digits-step-2.5"].data.imbalance_factor == 2.5


def test_the_directory_depends_on_cells_and_settings_but_not_on_arms_and_seeds() -> None:
    name = SweepConfig().directory_name()
    assert SweepConfig(num_seeds=3, arms=("focal",)).directory_name() == name
    assert SweepConfig(imbalance_factor=(10, 50)).directory_name() != name
    assert SweepConfig(train=TrainConfig(num_epochs=3)).directory_name() != name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": ()}, "--dataset is empty"),
        ({"imbalance_factor": (10, 10)}, "--imbalance-factor repeats 10"),
        ({"imbalance_factor": (0.5,)}, "--imbalance-factor is 0.5"),
        (
            {"imbalance": ("steps",)},
            "--imbalance is 'steps': choose one of",
        ),
        ({"dataset": ("npz:a/x.npz", "npz:b/x.npz")}, "would both be named x-long_tailed-10"),
        ({"arms": ("balancd",)}, "did you mean 'balanced'"),
    ],
)
def test_what_cannot_be_a_sweep_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SweepConfig(**settings)
