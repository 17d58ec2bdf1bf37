"""How a study was measured, and the command that does it again."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from drawn_runs import SWEEP, SWEEP_EFFECTS, write_study

from cwjax.analysis.looks import default_looks
from cwjax.config import DataConfig
from cwjax.report import measured, tables, words
from cwjax.store.schema import StudyFile

EFFECTS = {"uniform": 0.0, "balanced": 0.9}


def again(study: StudyFile) -> str:
    return measured.command(study).text


def test_the_command_holds_what_differs_from_the_defaults(tmp_path: Path) -> None:
    data = DataConfig(dataset="mnist", imbalance_factor=2.5, permute_classes=True)
    study = write_study(
        tmp_path / "study", EFFECTS, data=data, seeds=(3, 5), null_control=True, confidence=0.9
    )
    assert again(study) == (
        "cwjax compare --dataset mnist --imbalance-factor 2.5 --permute-classes --num-epochs 3 "
        "--confidence 0.9 --arms uniform balanced --seeds 3 5 --null-control --out results/again"
    )
    assert measured.command(study).note == ""


def test_settings_without_effect_are_left_out(tmp_path: Path) -> None:
    data = DataConfig(imbalance="none")
    study = write_study(tmp_path / "study", EFFECTS, 2, data=data)
    assert again(study) == (
        "cwjax compare --imbalance none --num-epochs 3 --arms uniform balanced --num-seeds 2 "
        "--out results/again"
    )
    shown = measured.settings(study, next(iter(study.cells.values())))
    assert not {"imbalance_factor", "permute_classes"} & shown.keys()
    assert shown["imbalance"] == "none"


def test_planned_looks_are_a_part_of_the_command(tmp_path: Path) -> None:
    default = write_study(tmp_path / "a", EFFECTS, 8, looks=default_looks(8, 0.95))
    assert "--arms uniform balanced --max-seeds 8 --out" in again(default)
    own = write_study(tmp_path / "b", EFFECTS, 8, looks=(7, 8))
    assert "--max-seeds 8 --looks 7 8 --out" in again(own)


def test_files_have_placeholders_that_are_said(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"ant": 1, "bee": 2, "cat": 3}))
    images = np.zeros((30, 6, 5), np.uint8)
    np.savez(tmp_path / "my data.npz", images=images, labels=np.arange(30) % 3)
    effects = {"uniform": 0.0, f"custom:file={tmp_path}/mine.json": 0.5}
    data = DataConfig(dataset=f"npz:{tmp_path}/my data.npz")
    study = write_study(tmp_path / "study", effects, 1, data=data)
    text, note = again(study), measured.command(study).note
    assert "--dataset 'npz:PATH/TO/my data.npz'" in text
    assert "custom:file=PATH/TO/mine.json" in text
    assert note == ("Put in first, for PATH/TO: the directory of my data.npz and mine.json.")
    assert str(tmp_path) not in text + note
    filled = shlex.split(text.replace("PATH/TO", str(tmp_path)))
    assert f"npz:{tmp_path}/my data.npz" in filled


def test_a_profile_is_said_where_the_source_would_have_another(tmp_path: Path) -> None:
    data = DataConfig(dataset="sklearn:digits", imbalance="long_tailed")
    study = write_study(tmp_path / "long", EFFECTS, 2, data=data)
    assert "--dataset sklearn:digits --imbalance long_tailed --num" in again(study)
    whole = write_study(tmp_path / "whole", EFFECTS, 2, data=DataConfig(dataset="sklearn:digits"))
    assert "--dataset sklearn:digits --num" in again(whole)


def test_a_fixed_split_of_an_estimator_is_said(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", EFFECTS, 2)
    model = "estimator:hist_gradient_boosting"
    train = dataclasses.replace(study.train, model=model)
    own = dataclasses.replace(study, train=train, estimators={model: {}})
    assert "--test-split fixed --model estimator:hist_gradient_boosting" in again(own)


def test_seeds_of_a_call_are_those_of_the_study(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", EFFECTS, seeds=(3, 5))
    train = dataclasses.replace(study.train, model="estimator:Mine")
    own = dataclasses.replace(study, train=train, estimators={"estimator:Mine": {}})
    assert "seeds=[3, 5], " in again(own)
    counted = dataclasses.replace(own, seeds=(0, 1))
    assert "seeds=2, " in again(counted)


def test_a_model_of_a_program_needs_a_file(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", EFFECTS, 2)
    train = dataclasses.replace(study.train, model="Tiny")
    own = dataclasses.replace(study, train=train, own_model="0" * 64)
    assert "--model PATH/TO/model.py:Tiny" in again(own)
    assert "model.py (a file with Tiny)" in measured.command(own).note


def test_a_sweep_is_its_flags_product(tmp_path: Path) -> None:
    study = write_study(tmp_path / "sweep", SWEEP_EFFECTS, 2, data=SWEEP)
    assert again(study) == (
        "cwjax sweep --imbalance-factor 4 16 64 --num-epochs 3 --arms uniform balanced focal "
        "--num-seeds 2 --out results/again"
    )
    both = [*SWEEP[:2], DataConfig(imbalance="none")]
    study = write_study(tmp_path / "both", [*SWEEP_EFFECTS[:2], SWEEP_EFFECTS[0]], 2, data=both)
    assert "--imbalance long_tailed none --imbalance-factor 4 16 --num" in again(study)


def test_the_code_and_the_data_are_recorded(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", EFFECTS, 2, equal_arms={"balanced": "uniform"})
    facts = measured.facts(study)
    assert facts["code"] == "cwjax 0.2"
    assert facts["seeds"] == "0, 1"
    (cell,) = study.cells.values()
    data = measured.data_facts(cell)
    assert data["fingerprint (SHA-256)"] == cell.dataset.fingerprint
    assert data["training examples per class"] == "100, 20, 4"
    assert data["arm balanced"] == "has the same settings as uniform here: trained once"
    assert measured.title(study) == "toy, long-tailed, imbalance factor 50"
    assert tables.pairs("x", data).rows[0] == ("data set", "toy")


@pytest.mark.parametrize(("low", "high", "text"), [(97, 97, "97"), (7, 360, "7 to 360")])
def test_spans(low: int, high: int, text: str) -> None:
    assert words.span(low, high) == text
