"""What was trained apart is the same once it is put together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cwjax.results.derive import derive
from cwjax.results.store import Store
from cwjax.sweep.derive import derive_sweep
from cwjax.sweep.directory import CellStatus, write_statuses
from cwjax.sweep.merge import merge
from drawn_runs import write_runs
from drawn_sweeps import EFFECTS, make_sweep, write_sweep

from cwjax.config import TrainConfig
from cwjax.errors import ConfigError

CELLS = list(EFFECTS)


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(autouse=True)
def _no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are tested elsewhere and take seconds."""
    monkeypatch.setattr("cwjax.results.derive.write_report", lambda *_: None)
    monkeypatch.setattr("cwjax.sweep.derive.write_sweep_report", lambda *_: None)


def write_share(directory: Path, index: int, num_seeds: int = 6, **missing: object) -> None:
    keys = [(c, a, s) for c in CELLS for s in range(num_seeds) for a in EFFECTS[c]]
    others = [key for place, key in enumerate(keys) if place % 2 != index]
    config = make_sweep(num_seeds=num_seeds)
    write_sweep(directory, config, EFFECTS, missing=others)


def test_shares_of_a_sweep_become_the_sweep(tmp_path: Path) -> None:
    for index in (0, 1):
        write_share(tmp_path / f"share{index}", index)
    before = [files(tmp_path / f"share{index}") for index in (0, 1)]
    write_sweep(tmp_path / "whole", make_sweep(num_seeds=6), EFFECTS)
    write_statuses(Store(tmp_path / "whole"), {cell: CellStatus("finished") for cell in CELLS})
    derive_sweep(Store(tmp_path / "whole"))
    shares = [tmp_path / "share0", tmp_path / "share1"]
    merge(shares, tmp_path / "merged", allow_environment_change=False)
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    assert [files(share) for share in shares] == before
    merge(shares, tmp_path / "merged", allow_environment_change=False)  # again: nothing changes
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_what_no_directory_has_is_said(tmp_path: Path) -> None:
    for index, seeds in ((0, 6), (1, 4)):
        write_share(tmp_path / f"share{index}", index, seeds)
    shares = [tmp_path / "share0", tmp_path / "share1"]
    comparison = merge(shares, tmp_path / "merged", allow_environment_change=False)
    assert {cell["state"] for cell in comparison["cells"]} == {"pending"}
    assert "3 of 18 runs are in none of the directories" in comparison["cells"][0]["reasons"]
    assert {entry["verdict"]["key"] for entry in comparison["comparisons"]} == {"refused"}


def test_comparisons_of_other_seeds_become_one(tmp_path: Path) -> None:
    effects = {"uniform": 0.0, "balanced": 0.9}
    write_runs(tmp_path / "whole", effects, 8)
    for name, kept in (("a", range(5)), ("b", range(3, 8))):
        write_runs(tmp_path / name, effects, 8)
        for arm in effects:
            for seed in set(range(8)) - set(kept):
                Store(tmp_path / name).run_path(arm, seed).unlink()
    derive(Store(tmp_path / "whole"))
    both = [tmp_path / "a", tmp_path / "b"]
    merge(both, tmp_path / "merged", allow_environment_change=False)
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


def test_a_merge_records_changes_and_keeps_arms_equal_only_where_they_are(tmp_path: Path) -> None:
    effects = {"uniform": 0.0, "balanced": 0.9, "focal": 0.9}
    for name in ("a", "b"):
        write_runs(tmp_path / name, effects, 2)
        store = Store(tmp_path / name)
        content = store.read_config() or {}
        equal = {"focal": "balanced"} | ({"balanced": "uniform"} if name == "a" else {})
        change = [f"jax: 0.1, now {name}"]
        store.write_json(
            "config.json", content | {"equal_arms": equal, "environment_changes": change}
        )
    both = [tmp_path / "a", tmp_path / "b"]
    merge(both, tmp_path / "merged", allow_environment_change=False)
    content = Store(tmp_path / "merged").read_config() or {}
    assert content["environment_changes"] == ["jax: 0.1, now a", "jax: 0.1, now b"]
    assert content["equal_arms"] == {"focal": "balanced"}
    assert "width" not in content["environment"]


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    effects = {"uniform": 0.0, "balanced": 0.9}
    write_runs(tmp_path / "a", effects, 2)
    write_runs(tmp_path / "other", effects, 2, data={"imbalance_factor": 7})
    write_runs(tmp_path / "twice", {"uniform": 0.0, "balanced": 0.1}, 2)
    write_sweep(tmp_path / "sweep", make_sweep(num_seeds=1), EFFECTS)
    longer = make_sweep(num_seeds=1, train=TrainConfig(num_epochs=3))
    write_sweep(tmp_path / "longer", longer, EFFECTS)
    shutil.copytree(tmp_path / "a", tmp_path / "torn")
    Store(tmp_path / "torn").run_path("uniform", 0).write_bytes(b"half")
    shutil.copytree(tmp_path / "a", tmp_path / "wide")
    wide = Store(tmp_path / "wide")
    wide.write_json("config.json", (wide.read_config() or {}) | {"width": 8})
    cases = {
        ("a", "other"): r"other: .*another experiment \(data\.imbalance_factor: 50\.0, now 7",
        ("a", "twice"): r"balanced-0\.npz differs .* trained twice",
        ("a", "torn"): r"uniform-0\.npz is not a whole run file",
        ("a", "wide"): r"wide: .*environment \(width: null, now 8",
        ("a", "sweep"): "give directories of one kind",
        ("sweep", "longer"): r"another sweep than .*train\.num_epochs: 12, now 3",
        ("a", "nowhere"): r"nowhere holds no config\.json",
    }
    for place, (names, message) in enumerate(cases.items()):
        with pytest.raises(ConfigError, match=message):
            merge(
                [tmp_path / name for name in names],
                tmp_path / f"out{place}",
                allow_environment_change=False,
            )


@pytest.mark.fault(65)
def test_a_foreign_run_is_refused_and_not_left_behind(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_runs(tmp_path / name, {"uniform": 0.0, "balanced": 0.5}, 2)
    runs = tmp_path / "b" / "runs"
    shutil.copyfile(runs / "balanced-0.npz", runs / "focal-0.npz")
    with pytest.raises(ConfigError, match=r"b/runs/focal-0\.npz is of no arm and seed of this"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out", allow_environment_change=False)
    assert not (tmp_path / "out").exists()
