"""What a study is made of before anything trains: runs, who answers whom, who is compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cwjax.analysis.pairing import family_size, pairings
from cwjax.arms.arm import NULL_CONTROL
from cwjax.config import DataConfig, StudyConfig, TrainConfig
from cwjax.errors import ConfigError
from cwjax.study.derive import study_pairings
from cwjax.study.manifest import describe, with_cells_of
from cwjax.study.plan import Plan, make_plan, parse_design
from cwjax.training.devices import DeviceFacts
from cwjax.training.runs import RunKey

CPU = DeviceFacts("cpu", "cpu", cpu_threads=2, jax_flags={})


@pytest.fixture
def make(tiny_npz: str) -> Any:
    """A plan of the tiny data set; keyword arguments are fields of `StudyConfig`."""

    def make(*data: dict[str, Any], **settings: Any) -> Plan:
        cells = data or ({"imbalance_factor": 4.0},)
        config = StudyConfig(
            data=tuple(DataConfig(dataset=tiny_npz, **each) for each in cells),
            train=settings.pop("train", TrainConfig(num_epochs=2, batch_size=16)),
            num_seeds=settings.pop("num_seeds", 2),
            **settings,
        )
        return make_plan(config)

    return make


def answers_of_seed_0(plan: Plan) -> dict[str, str]:
    """Arm -> the arm whose run answers it, where that is another."""
    return {
        key.arm: source.arm
        for key, sources in plan.sources.items()
        if key.seed == 0
        for source in sources
    }


def test_every_run_is_answered_and_trained_runs_by_themselves(make: Any) -> None:
    plan = make(arms=("all", "focal:best"), baseline="uniform:best", null_control=True)
    assert set(plan.sources) == set(describe(plan, CPU).run_keys)
    trained = {run.key for run in plan.trained_runs}
    assert trained == {key for key, sources in plan.sources.items() if not sources}
    before: set[RunKey] = set()
    for key, sources in plan.sources.items():
        assert all((key.cell, key.seed) == (source.cell, source.seed) for source in sources)
        assert before.issuperset(sources)
        before.add(key)
        assert trained.issuperset(plan.roots(key))
        assert key not in trained or plan.roots(key) == (key,)


def test_twins_are_answered_by_the_first_of_them(make: Any) -> None:
    plan = make(arms=("logit_adjusted", "balanced_softmax", "balanced", "focal:gamma=0"))
    assert str(plan.design.baseline) == "uniform"
    assert answers_of_seed_0(plan) == {
        "balanced_softmax": "logit_adjusted",
        "focal:gamma=0": "uniform",
    }
    (cell,) = plan.cells
    assert plan.equal_arms(cell) == answers_of_seed_0(plan)
    assert len(plan.trained_runs) == 2 * 3


def test_post_hoc_arms_are_answered_by_uniform_and_that_may_be_a_twin_itself(make: Any) -> None:
    plan = make(arms=("uniform", "tau_norm", "posthoc_logit_adjusted:tau=1"))
    assert answers_of_seed_0(plan) == {
        "tau_norm": "uniform",
        "posthoc_logit_adjusted:tau=1": "uniform",
    }
    chain = make({"imbalance": "none"}, arms=("uniform", "tau_norm"), baseline="balanced")
    assert answers_of_seed_0(chain) == {"uniform": "balanced", "tau_norm": "uniform"}
    assert {run.key.arm for run in chain.trained_runs} == {"balanced"}


def test_an_arm_of_the_same_row_and_other_stages_is_no_twin(make: Any) -> None:
    plan = make(arms=[f"crt:min_steps=0:epochs={share}" for share in (0.5, 1, 0.51)])
    name = "crt:epochs={}:min_steps=0".format
    assert answers_of_seed_0(plan) == {name(0.51): name(0.5)}  # one epoch, both


def test_twins_are_found_cell_by_cell(make: Any) -> None:
    """Balanced weights are uniform where the data are balanced, and in that cell alone."""
    plan = make({"imbalance": "none"}, {"imbalance_factor": 4.0}, arms=("balanced",))
    balanced, long_tailed = plan.cells
    assert plan.equal_arms(balanced) == {"balanced": "uniform"}
    assert plan.equal_arms(long_tailed) == {}


def test_the_control_trains_under_other_keys_on_the_same_data(make: Any) -> None:
    plan = make(null_control=True)
    runs = {run.key.arm: run for run in plan.runs if run.key.seed == 1}
    control, baseline = runs[NULL_CONTROL], runs["uniform"]
    assert control.key_seed == 1 + 2**32
    assert (control.train_indices == baseline.train_indices).all()
    assert plan.sources[control.key] == ()


CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], int]] = {
    "two arms": ([], {}, 1),
    "null control": ([], {"null_control": True}, 1),
    "equal arms": ([], {"arms": ("logit_adjusted", "balanced_softmax", "balanced")}, 2),
    "an equal of the baseline": ([], {"arms": ("focal:gamma=0", "balanced")}, 1),
    "all equal": ([{"imbalance": "none"}], {}, 0),
    "post hoc": ([], {"arms": ("uniform", "tau_norm", "balanced")}, 2),
    "cells": (
        [{"imbalance": "none"}, {"imbalance_factor": 2.0}, {"imbalance_factor": 4.0}],
        {"arms": ("balanced", "focal", "balanced_softmax"), "null_control": True},
        2 + 3 + 3,  # without an imbalance balanced is uniform
    ),
    "tuned arms, an equal one, and an arm that one of them may be": (
        [],
        {
            "arms": (
                "logit_adjusted:tau=best(1,2)",
                "logit_adjusted",
                "vector_scaling:gamma=0:tau=best(1,2)",
                "focal:best",
            ),
            "baseline": "uniform:best",
            "null_control": True,
        },
        3,
    ),
    "an equal one as the baseline": (
        [{"imbalance": "none"}],
        {"baseline": "balanced", "arms": ("uniform", "focal", "focal:gamma=0")},
        1,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_family_is_one_before_and_after_training(make: Any, case: str) -> None:
    """The seeds note before training, the adjustment and the report count the same comparisons."""
    data, settings, expected = CASES[case]
    plan = make(*data, **settings)
    study = describe(plan, CPU)
    assert family_size(study_pairings(study)) == expected
    assert with_cells_of(study, plan) == study
    for cell in plan.cells:
        own = [each for each in study_pairings(study) if each.cell == cell]
        names = study.arm_names
        assert own == list(pairings(names, names[0], plan.equal_arms(cell), cell))


def test_what_describes_a_plan_holds_its_runs(make: Any) -> None:
    plan = make({"imbalance_factor": 4.0}, {"imbalance": "step", "imbalance_factor": 4.0},
                arms=("balanced", "tau_norm", "uniform"), null_control=True)  # fmt: skip
    study = describe(plan, CPU)
    assert set(study.run_keys) == set(plan.sources)
    assert study.arm_names == ("uniform", "balanced", "tau_norm", NULL_CONTROL)
    assert study.environment.cpu_threads == 2
    for cell, stored in study.cells.items():
        assert stored.class_counts[1] == tuple(plan.cells[cell].splits[1].class_counts)
        assert stored.dataset.input_shape == (18, 18, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "acuracy"}, r"--metric is 'acuracy' \(did you mean 'accuracy'"),
        ({"model": "cn"}, r"--model is 'cn' \(did you mean 'cnn'\?\): choose one of auto, cnn"),
        ({"optimizer": "rms"}, r"--optimizer is 'rms' \(did you mean 'rmsprop'\?\): choose one of"),
        ({"baseline": "focal:gamma=1,2"}, "--baseline focal:gamma=1,2 names 2 arms: give a single"),
        ({"baseline": "tau_norm"}, "post-hoc arms are computed from the runs of uniform: add it"),
        (
            {"baseline": "tau_norm", "arms": ("uniform",)},
            "--baseline tau_norm is not trained: give a trained arm",
        ),
        ({"arms": ("focal", "focal:gamma=2")}, "given twice"),
        (
            {"arms": ("uniform",), "max_seeds": 8, "null_control": True},
            "--max-seeds has nothing to decide about uniform alone: give another arm, or",
        ),
    ],
)
def test_names_are_checked_before_any_data_are_read(settings: dict[str, Any], message: str) -> None:
    config = StudyConfig(data=(DataConfig(dataset="npz:nowhere.npz"),), arms=("balanced",))
    train = {key: settings.pop(key) for key in ("model", "optimizer") if key in settings}
    analysis = {key: settings.pop(key) for key in ("metric",) if key in settings}
    config = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, **train),
        analysis=dataclasses.replace(config.analysis, **analysis),
        **settings,
    )
    with pytest.raises(ConfigError, match=message):
        make_plan(config)


def test_the_baseline_comes_first_and_once() -> None:
    for arms in (("balanced",), ("balanced", "uniform"), ("uniform", "balanced")):
        names = tuple(map(str, parse_design(StudyConfig(arms=arms)).arms))
        assert names == ("uniform", "balanced")


def test_a_plan_needs_no_jax(tiny_npz: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom cwjax.config import DataConfig, StudyConfig, TrainConfig\n"
        "from cwjax.study.plan import make_plan\n"
        f"data = DataConfig(dataset={tiny_npz!r}, imbalance_factor=4)\n"
        "plan = make_plan(StudyConfig(data=(data,), train=TrainConfig(batch_size=8)))\n"
        "plan.trained_runs\n"
        "print(sorted({'jax', 'flax', 'optax', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


def test_run_keys_sort_and_read_well() -> None:
    keys = [RunKey("b", "a", 0), RunKey("a", "b", 1), RunKey("a", "b", 0)]
    assert sorted(keys) == [keys[2], keys[1], keys[0]]
    assert str(keys[1]) == "b seed 1"


def test_uniform_for_as_long_as_the_longest_arm(make: Any) -> None:
    arms = ("uniform", "crt:min_steps=5", "lws:epochs=3:min_steps=9")
    plan = make(arms=arms, equal_length_baseline=True, num_seeds=1)
    epochs = {run.key.arm: (run.first_stage_epochs, run.num_epochs) for run in plan.trained_runs}
    # 94 examples in batches of 16 are 5 whole steps an epoch.
    assert epochs == {
        "uniform": (2, 2),
        "crt:min_steps=5": (2, 3),
        "lws:epochs=3:min_steps=9": (2, 8),
        "long_uniform:epochs=3:min_steps=9": (8, 8),
    }
    given = (*arms, "long_uniform:epochs=3:min_steps=9")
    assert make(arms=given, equal_length_baseline=True).design == make(arms=given).design
    with pytest.raises(ConfigError, match="--equal-length-baseline has no arm of two stages"):
        make(arms=("balanced",), equal_length_baseline=True)
