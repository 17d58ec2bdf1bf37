"""Planned looks through the driver, and how often a study without them has been judged."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from drawn_runs import SWEEP, write_study

from cwjax.analysis.deployment import Questions
from cwjax.analysis.results import StudyComparison
from cwjax.arms.arm import NULL_CONTROL
from cwjax.config import DataConfig, RuntimeConfig, StudyConfig, TrainConfig
from cwjax.errors import ConfigError
from cwjax.report import words
from cwjax.store.contents import read_headers
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import StudyFile
from cwjax.study import derive as derive_module
from cwjax.study.deploy import deployed
from cwjax.study.derive import derive
from cwjax.study.judge import progress
from cwjax.study.manifest import continued
from cwjax.study.merge import merge
from cwjax.study.run import Finished, LookTaken, Planned, run
from cwjax.training import chunk

ONE_CORE = RuntimeConfig(max_parallel_runs=1)
LOOKS = (8, 10)


def config(npz: str, folder: Path) -> StudyConfig:
    """An arm that is plainly worse, one that hardly differs, twins, a post-hoc arm, a control."""
    (folder / "one.json").write_text(json.dumps({"a": 1000, "b": 0.001, "c": 0.001}))
    return StudyConfig(
        data=(DataConfig(dataset=npz, imbalance_factor=2),),
        arms=(
            "uniform", f"custom:file={folder}/one.json", "focal",
            "logit_adjusted", "balanced_softmax", "tau_norm",
        ),
        train=TrainConfig(num_epochs=6, batch_size=16, learning_rate=0.005, model="linear"),
        max_seeds=10,
        looks=LOOKS,
        null_control=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(
    tiny_npz: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StudyConfig, Path, list[object]]:
    """Settings, the directory of an unbroken study of them, and what happened."""
    folder = tmp_path_factory.mktemp("looks")
    settings = config(tiny_npz, folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(derive_module, "write_cell_report", lambda *_: None)
        events: list[object] = list(run(settings, folder / "unbroken", ONE_CORE))
    return settings, folder / "unbroken", events


def content(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "log.jsonl"
    }


def test_a_decided_arm_trains_no_further(study) -> None:
    _, directory, events = study
    looks = [event for event in events if isinstance(event, LookTaken)]
    assert [each.look.num_seeds for each in looks] == list(LOOKS)
    known = StudyDirectory(directory).known_study()
    seeds = Counter(key.arm for key in known.run_keys if StudyDirectory(directory).has_run(key))
    worse = next(arm for arm in known.arm_names if arm.startswith("custom"))
    assert seeds[worse] == 8
    assert seeds["uniform"] == seeds["focal"] == seeds[NULL_CONTROL] == 10
    assert seeds["balanced_softmax"] == seeds["logit_adjusted"]
    finished = events[-1]
    assert isinstance(finished, Finished)
    comparison = finished.comparison
    by_arm = {entry.pairing.treatment: entry for entry in comparison.comparisons}
    assert by_arm[worse].verdict.key == "worse"
    assert by_arm[worse].stopped == "decided"
    assert by_arm[worse].judged.p is None
    assert len(by_arm[worse].seeds) == 8
    assert by_arm["balanced_softmax"].judged == by_arm["logit_adjusted"].judged
    assert comparison.family_size == 4  # the twins count once, the control does not
    design = comparison.design
    assert design.num_runs == sum(seeds.values()) < design.num_runs_without_looks == 70
    assert (comparison.baseline, worse) not in design.looks[0].decided
    assert worse in [arm for _, arm in design.looks[0].decided]
    assert any("saved" in sentence for sentence in words.design_sentences(comparison))
    assert comparison.cells[0].never_predicted[worse] == ("b", "c")
    planned = [event for event in events if isinstance(event, Planned)]
    assert [each.num_expected for each in planned] == [56, design.num_runs]


@pytest.mark.usefixtures("no_report")
def test_a_study_that_was_closed_in_the_middle_of_a_look_gives_the_same_bytes(
    study, tmp_path: Path
) -> None:
    settings, unbroken, _ = study
    events = run(settings, tmp_path / "b", ONE_CORE)
    for event in events:
        if isinstance(event, Planned) and event.num_expected > 56:
            break
    next(events)
    events.close()
    list(run(settings, tmp_path / "b", ONE_CORE))
    assert content(tmp_path / "b") == content(unbroken)


@pytest.mark.usefixtures("no_report")
def test_a_look_at_comparisons_that_are_all_refused_ends_the_study(
    tiny_config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no batches today")

    monkeypatch.setattr(chunk, "epoch_blocks", broken)
    settings = dataclasses.replace(tiny_config, max_seeds=7, looks=(6, 7))
    events = list(run(settings, tmp_path, ONE_CORE))
    assert not any(isinstance(event, LookTaken) for event in events)
    assert isinstance(events[-1], Finished)
    assert len(StudyDirectory(tmp_path).known_study().failures) == 12
    assert events[-1].comparison.comparisons[0].verdict.key == "refused"


@pytest.mark.fault(99)
@pytest.mark.usefixtures("no_report")
def test_a_kill_between_a_look_and_the_next_runs(study, tmp_path: Path) -> None:
    settings, unbroken, _ = study
    events = run(settings, tmp_path / "a", ONE_CORE)
    next(event for event in events if isinstance(event, LookTaken))
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # what a process that dies here leaves behind
    events.close()
    first = StudyDirectory(tmp_path / "b")
    assert sum(map(first.has_run, first.known_study().run_keys)) == 56
    after = list(run(settings, tmp_path / "b", ONE_CORE))
    assert [e.look.num_seeds for e in after if isinstance(e, LookTaken)] == list(LOOKS)
    assert content(tmp_path / "b") == content(unbroken)
    assert isinstance(after[-1], Finished)
    assert [look.num_seeds for look in after[-1].comparison.design.looks] == list(LOOKS)


@pytest.mark.fault(100)
@pytest.mark.parametrize(
    "changes",
    [
        {"max_seeds": 12, "looks": None},
        {"looks": (9, 10)},
        {"max_seeds": None, "looks": None, "num_seeds": 10},
    ],
)
def test_another_plan_is_refused(study, tmp_path: Path, changes: dict[str, object]) -> None:
    settings, unbroken, _ = study
    shutil.copytree(unbroken, tmp_path / "b")
    before = content(tmp_path / "b")
    with pytest.raises(ConfigError, match="the directory's plan is fixed: it looks at 8, 10 seeds"):
        list(run(dataclasses.replace(settings, **changes), tmp_path / "b", ONE_CORE))
    assert content(tmp_path / "b") == before


@pytest.mark.usefixtures("no_report")
def test_each_cell_trains_as_long_as_an_arm_of_it_does(tmp_path: Path) -> None:
    effects = [{"uniform": 0.0, "balanced": effect} for effect in (0.9, 0.0)]
    write_study(tmp_path, effects, 12, data=SWEEP[:2], null_control=True, looks=(8, 12))
    directory = StudyDirectory(tmp_path)
    known = directory.known_study()
    state = progress(known, read_headers(directory, known))
    decided, going_on = (data.name() for data in SWEEP[:2])
    counts = Counter((key.cell, key.arm) for key in state.expected)
    for arm in ("uniform", "balanced", NULL_CONTROL):
        assert (counts[decided, arm], counts[going_on, arm]) == (8, 12)
    assert state.num_looks == 2
    comparison = derive(directory)
    assert comparison.design.num_runs == 3 * 8 + 3 * 12
    assert [len(entry.seeds) for entry in comparison.judged] == [8, 12]
    counted = {(each.cell, each.num_runs, each.num_ok) for each in comparison.summaries}
    assert counted == {(decided, 8, 8), (going_on, 12, 12)}  # although all 12 are stored
    for facts in deployed(directory, Questions(priors=("reversed",))):
        seeds = {judged.seeds for score in facts.scores for judged in score.differences.values()}
        assert seeds == {tuple(range(8 if facts.cell == decided else 12))}


@pytest.mark.usefixtures("no_report")
def test_a_study_that_decided_early_is_complete_for_a_merge(tmp_path: Path) -> None:
    effects = {"uniform": 0.0, "balanced": 0.9}
    late = [(arm, seed) for arm in effects for seed in range(8, 12)]
    for name, others in (("a", late), ("b", [*late, ("balanced", 0)])):
        write_study(tmp_path / name, effects, 12, looks=(8, 12), missing=others)
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c", allow_environment_change=False)
    assert merged.design.num_runs == 16


def grown(path: Path, num_seeds: int, arms: tuple[str, ...] = ("uniform", "balanced")) -> StudyFile:
    """Adds drawn seeds or arms as the driver would: what was recorded stays."""
    directory = StudyDirectory(path)
    old = directory.read_study()
    new = write_study(path, dict(zip(arms, (0.0, 0.9, 0.2), strict=False)), num_seeds)
    if old is not None:
        new = continued(new, old, allow_environment_change=False)
        new = dataclasses.replace(new, cells=write_cells(path))
        directory.write_study(new)
    return new


def write_cells(path: Path) -> dict:
    return StudyDirectory(path).known_study().cells


@pytest.mark.usefixtures("no_report")
def test_seeds_that_are_added_after_a_judging_are_judged_more_strictly(tmp_path: Path) -> None:
    def judged() -> StudyComparison:
        return derive(StudyDirectory(tmp_path))

    grown(tmp_path, 2)
    pilot = judged().design
    assert (pilot.times_judged, pilot.alpha) == (0, 0.05)  # too few to establish anything
    grown(tmp_path, 8)
    first = judged().design
    assert (first.times_judged, first.alpha) == (1, 0.05)
    assert judged().design == first  # deriving again is no new judging
    grown(tmp_path, 12)
    second = judged()
    assert (second.design.times_judged, second.design.alpha) == (2, pytest.approx(0.05 / 6))
    assert "judged 2 times" in words.design_sentences(second)[0]
    assert second.judged[0].judged.interval.confidence == pytest.approx(1 - 0.05 / 6)
    grown(tmp_path, 12, ("uniform", "balanced", "focal"))
    assert judged().design.times_judged == 2  # arms are added to the same look


@pytest.mark.usefixtures("no_report")
def test_a_merge_is_judged_once_more_than_its_parts(tmp_path: Path) -> None:
    effects = {"uniform": 0.0, "balanced": 0.9}
    for name, seeds in (("a", (0, 1, 2, 3, 4, 5, 6, 7)), ("b", tuple(range(20, 30)))):
        write_study(tmp_path / name, effects, seeds=seeds)
    parts = [tmp_path / "a", tmp_path / "b"]
    fresh = merge(parts, tmp_path / "fresh", allow_environment_change=False)
    assert fresh.design.times_judged == 1  # nobody has looked yet
    for part in parts:
        derive(StudyDirectory(part))
    for _ in range(2):  # a merge that is done again is the same one
        merged = merge(parts, tmp_path / "c", allow_environment_change=False)
        assert (merged.design.times_judged, merged.design.alpha) == (2, pytest.approx(0.05 / 6))


@pytest.mark.usefixtures("no_report")
def test_arms_without_randomness_get_no_verdict(tmp_path: Path) -> None:
    write_study(tmp_path, {"uniform": 0.0, "balanced": 0.9}, 8)
    directory = StudyDirectory(tmp_path)
    for key in directory.known_study().run_keys:
        first = directory.read_run(dataclasses.replace(key, seed=0))
        directory.run_path(key).unlink()
        directory.write_run(dataclasses.replace(first, key=key))
    (entry,) = derive(directory).comparisons
    assert entry.deterministic
    assert entry.verdict.key == "no_randomness"


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("metric", "claim"),
    [("balanced_accuracy", "new_test_sets"), ("worst_class_recall", "this_test_set")],
)
def test_a_verdict_claims_what_its_metric_can(tmp_path: Path, metric: str, claim: str) -> None:
    write_study(tmp_path, {"uniform": 0.0, "balanced": 0.9}, 10, metric=metric)
    (entry,) = derive(StudyDirectory(tmp_path)).comparisons
    assert (entry.verdict.key, entry.verdict.claim) == ("better", claim)
    if claim == "new_test_sets":
        inner, outer = entry.judged.interval, entry.new_test_sets
        assert outer.ci_low <= inner.ci_low < inner.ci_high <= outer.ci_high
    else:
        assert entry.new_test_sets is None
        assert "better on this test set" in words.verdict_label(entry)
