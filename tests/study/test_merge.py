"""What was trained apart is the same once it is put together."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from drawn_runs import CELL, SWEEP, SWEEP_EFFECTS, write_study

from cwjax.config import DataConfig, TrainConfig
from cwjax.errors import ConfigError
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import CodeIdentity, Failure
from cwjax.study.derive import derive
from cwjax.study.merge import merge
from cwjax.training.runs import RunKey

EFFECTS = {"uniform": 0.0, "balanced": 0.9}

pytestmark = pytest.mark.usefixtures("no_report")


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def change(path: Path, **changes: object) -> None:
    directory = StudyDirectory(path)
    directory.write_study(dataclasses.replace(directory.known_study(), **changes))


@pytest.mark.parametrize("cells", [1, 3])
def test_studies_of_other_seeds_become_one(tmp_path: Path, cells: int) -> None:
    data, effects = SWEEP[:cells], SWEEP_EFFECTS[:cells]
    for name, seeds in (("whole", range(6)), ("a", (0, 1, 2)), ("b", (3, 4, 5))):
        write_study(tmp_path / name, effects, data=data, seeds=tuple(seeds))
    derive(StudyDirectory(tmp_path / "whole"))
    both = [tmp_path / "a", tmp_path / "b"]
    before = [files(path) for path in both]
    merged = merge(both, tmp_path / "merged", allow_environment_change=False)
    assert len(merged.comparisons) == 2 * cells
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    assert [files(path) for path in both] == before
    merge(both, tmp_path / "merged", allow_environment_change=False)  # again: nothing changes
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_studies_of_other_arms_and_shared_runs_become_one(tmp_path: Path) -> None:
    focal = {"uniform": 0.0, "focal": 0.3}
    write_study(tmp_path / "whole", {**EFFECTS, **focal}, 4)
    write_study(tmp_path / "a", EFFECTS, 4)
    write_study(tmp_path / "b", focal, 4)
    derive(StudyDirectory(tmp_path / "whole"))
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged", allow_environment_change=False)
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_runs_that_were_shared_out_become_the_study(tmp_path: Path) -> None:
    write_study(tmp_path / "whole", EFFECTS, 8)
    for name, kept in (("a", range(5)), ("b", range(3, 8))):
        missing = [(arm, seed) for arm in EFFECTS for seed in set(range(8)) - set(kept)]
        write_study(tmp_path / name, EFFECTS, 8, missing=missing)
    derive(StudyDirectory(tmp_path / "whole"))
    both = [tmp_path / "a", tmp_path / "b"]
    merge(both, tmp_path / "merged", allow_environment_change=False)
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_runs_that_no_directory_has_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    for name in "ab":
        write_study(tmp_path / name, SWEEP_EFFECTS, 2, data=SWEEP, missing=[("focal", 1)])
    cell = SWEEP[0].name()
    message = f"3 of 18 runs are in none of the directories, the first is focal seed 1 of {cell}"
    with pytest.raises(ConfigError, match=message):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out", allow_environment_change=False)
    assert not (tmp_path / "out").exists()


def test_a_run_that_failed_here_and_ended_well_there_is_taken(tmp_path: Path) -> None:
    write_study(tmp_path / "whole", EFFECTS, 3)
    write_study(tmp_path / "a", EFFECTS, 3, failures={("balanced", 1): "no memory"})
    write_study(tmp_path / "b", EFFECTS, 3)
    derive(StudyDirectory(tmp_path / "whole"))
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged", allow_environment_change=False)
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_a_run_that_failed_everywhere_stays_failed(tmp_path: Path) -> None:
    for name, seeds in (("a", (0, 1)), ("b", (1, 2))):
        failed = {("balanced", 1): f"no memory in {name}"}
        write_study(tmp_path / name, EFFECTS, seeds=seeds, failures=failed)
    both = [tmp_path / "a", tmp_path / "b"]
    comparison = merge(both, tmp_path / "merged", allow_environment_change=False)
    assert [e.verdict.key for e in comparison.comparisons] == ["refused"]
    key = RunKey(CELL, "balanced", 1)
    assert StudyDirectory(tmp_path / "merged").known_study().failures == (
        Failure(key, "no memory in a"),
        Failure(key, "no memory in b"),
    )


def test_a_merge_records_changes_and_keeps_arms_equal_only_where_they_are(tmp_path: Path) -> None:
    effects = {"uniform": 0.0, "balanced": 0.9, "focal": 0.9}
    for name in "ab":
        equal = {"focal": "balanced"} | ({"balanced": "uniform"} if name == "a" else {})
        study = write_study(tmp_path / name, effects, 2)
        cell = dataclasses.replace(study.cells[CELL], equal_arms=equal)
        change(
            tmp_path / name,
            cells={CELL: cell},
            environment_changes=(f"jax: 0.1, now {name}",),
            code=(CodeIdentity("0.2", name * 40, dirty=False),),
        )
    both = [tmp_path / "a", tmp_path / "b"]
    merge(both, tmp_path / "merged", allow_environment_change=False)
    study = StudyDirectory(tmp_path / "merged").known_study()
    assert study.environment_changes == ("jax: 0.1, now a", "jax: 0.1, now b")
    assert study.cells[CELL].equal_arms == {"focal": "balanced"}
    assert [code.commit for code in study.code] == ["a" * 40, "b" * 40]


def test_other_environments_and_widths_need_a_word(tmp_path: Path) -> None:
    for name in "abc":
        study = write_study(tmp_path / name, EFFECTS, 2)
    wider = dataclasses.replace(study.cells[CELL], width=8)
    change(tmp_path / "b", cells={CELL: wider})
    versions = study.environment.versions | {"jax": "0.11"}
    change(tmp_path / "c", environment=dataclasses.replace(study.environment, versions=versions))
    for name, difference in (("b", f"{CELL}: width: not set, now 8"), ("c", "jax: 0.10, now 0.11")):
        both = [tmp_path / "a", tmp_path / name]
        with pytest.raises(ConfigError, match=f"{difference}.*--allow-environment-change"):
            merge(both, tmp_path / "out", allow_environment_change=False)
        assert not (tmp_path / "out").exists()
        merge(both, tmp_path / f"allowed-{name}", allow_environment_change=True)
        merged = StudyDirectory(tmp_path / f"allowed-{name}").known_study()
        assert merged.environment_changes == (difference,)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "a", EFFECTS, 2)
    write_study(tmp_path / "other", EFFECTS, 2, data=DataConfig(imbalance_factor=7))
    write_study(tmp_path / "twice", {"uniform": 0.0, "balanced": 0.1}, 2)
    write_study(tmp_path / "sweep", SWEEP_EFFECTS, 1, data=SWEEP)
    write_study(tmp_path / "longer", EFFECTS, 2, num_epochs=4)
    shutil.copytree(tmp_path / "a", tmp_path / "torn")
    StudyDirectory(tmp_path / "torn").run_path(RunKey(CELL, "uniform", 0)).write_bytes(b"half")
    shutil.copytree(tmp_path / "a", tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "examples")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sweep.json").write_text("{}")
    cases = {
        ("a", "other"): r"other: .*another study \(imbalance_factor: 50\.0, now 7",
        ("a", "twice"): r"balanced-0\.npz differs .* trained twice",
        ("a", "torn"): r"uniform-0\.npz is damaged",
        ("a", "sweep"): rf"sweep: .*cells: {CELL}, now .*-4, .*-16",
        ("a", "longer"): r"longer: .*num_epochs: 3, now 4",
        ("a", "nowhere"): r"nowhere: no such directory",
        ("a", "old"): r"old was written by cwjax 0\.1 \(sweep\.json\)",
        ("bare", "bare"): r"examples/\w+\.npz is in none of the directories",
    }
    for place, (names, message) in enumerate(cases.items()):
        with pytest.raises(ConfigError, match=message) as caught:
            merge(
                [tmp_path / name for name in names],
                tmp_path / f"out{place}",
                allow_environment_change=False,
            )
        assert "\n" not in str(caught.value)


def test_examples_are_taken_from_whichever_directory_has_them(tmp_path: Path) -> None:
    for name in ("whole", "a", "b"):
        write_study(tmp_path / name, EFFECTS, 2)
    shutil.rmtree(tmp_path / "a" / "examples")
    derive(StudyDirectory(tmp_path / "whole"))
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out", allow_environment_change=False)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.fault(65)
def test_a_foreign_run_is_refused_and_not_left_behind(tmp_path: Path) -> None:
    for name in "ab":
        write_study(tmp_path / name, {"uniform": 0.0, "balanced": 0.5}, 2)
    runs = tmp_path / "b" / "runs" / CELL
    shutil.copyfile(runs / "balanced-0.npz", runs / "focal-0.npz")
    with pytest.raises(ConfigError, match=r"focal-0\.npz is of no arm and seed of this"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out", allow_environment_change=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.fault(3, 4)
def test_a_merge_that_was_killed_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seeds in (("whole", (0, 1, 2, 3)), ("a", (0, 1)), ("b", (2, 3))):
        write_study(tmp_path / name, EFFECTS, seeds=seeds)
    derive(StudyDirectory(tmp_path / "whole"))
    both = [tmp_path / "a", tmp_path / "b"]
    merge_module = "cwjax.study.merge.write_atomically"
    copied = []

    def killed(path: Path, content: bytes) -> None:
        copied.append(path)
        if len(copied) == 3:
            path.with_name(f".tmp-1-{path.name}").write_bytes(content[:100])
            raise KeyboardInterrupt
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr(merge_module, killed)
        with pytest.raises(KeyboardInterrupt):
            merge(both, tmp_path / "merged", allow_environment_change=False)
    assert len(list((tmp_path / "merged" / "runs").rglob("*"))) == 1 + 3
    merge(both, tmp_path / "merged", allow_environment_change=False)
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_a_directory_of_another_study_is_not_merged_into(tmp_path: Path) -> None:
    for name in "ab":
        write_study(tmp_path / name, EFFECTS, 2)
    write_study(tmp_path / "out", EFFECTS, 2, num_epochs=4)
    before = files(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"num_epochs: 4, now 3.*another --out"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out", allow_environment_change=True)
    assert files(tmp_path / "out") == before
    assert TrainConfig(num_epochs=4) == StudyDirectory(tmp_path / "out").known_study().train
