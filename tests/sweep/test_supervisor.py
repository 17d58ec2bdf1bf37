"""A sweep goes on without what fails, says so, and takes it up again when it is run again."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from contextlib import closing
from pathlib import Path

import fake_work
import pandas as pd
import pytest
from cwjax.results.store import Store, open_store
from cwjax.sweep import derive, messages, supervisor
from cwjax.sweep.config import SweepConfig
from cwjax.sweep.directory import (
    SWEEP,
    CellStatus,
    enter_sweep,
    read_statuses,
    write_statuses,
)
from cwjax.sweep.hosts import Hosts
from cwjax.sweep.supervisor import Ended, WorkerLost, run_sweep
from drawn_sweeps import EFFECTS

from cwjax.config import RuntimeConfig, TrainConfig
from cwjax.errors import ConfigError

CELLS = list(EFFECTS)
CONFIG = SweepConfig(
    imbalance_factor=(4, 16, 64), num_seeds=2, train=TrainConfig(num_epochs=1), arms=("balanced",)
)


@pytest.fixture(autouse=True)
def _drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No training and no pages: they are tested elsewhere."""
    monkeypatch.setattr(supervisor, "work", fake_work.work)
    monkeypatch.setattr(derive, "write_sweep_report", lambda *_: None)
    monkeypatch.setattr("cwjax.results.derive.write_report", lambda *_: None)


def run(directory: Path, config: SweepConfig = CONFIG, **settings: object) -> Ended:
    *_, ended = run_sweep(config, directory, RuntimeConfig(), **settings)
    assert isinstance(ended, Ended)
    assert multiprocessing.active_children() == []
    return ended


def states_after(directory: Path, config: SweepConfig) -> list[str]:
    """Of the cells, once the sweep has run."""
    run(directory, config)
    return states(directory)


def states(directory: Path) -> list[str]:
    return [status.state for status in read_statuses(Store(directory), CELLS).values()]


def set_faults(tmp_path: Path, **faults: str) -> None:
    """`cell0_balanced_1="fail"` of the first cell, and so on."""
    named = {}
    for name, fault in faults.items():
        cell, arm, seed = name.split("_")
        named[f"{CELLS[int(cell.removeprefix('cell'))]} {arm} {seed}"] = fault
    (tmp_path / "faults.json").write_text(json.dumps(named))


def run_files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("runs/*")
    }


@pytest.fixture
def unbroken(tmp_path: Path) -> Path:
    run(tmp_path / "unbroken")
    return tmp_path / "unbroken"


def test_a_finished_sweep_has_every_run_and_starts_nothing_when_run_again(
    unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states(unbroken) == ["finished"] * 3
    assert len(run_files(unbroken)) == 3 * 2 * 2
    before = {
        path: path.read_bytes() for path in unbroken.rglob("*") if path.suffix in (".json", ".npz")
    }
    monkeypatch.setattr(supervisor, "Worker", None)
    run(unbroken)
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.fault(60)
def test_a_failed_run_leaves_the_rest_of_the_sweep_alone(tmp_path: Path, unbroken: Path) -> None:
    set_faults(tmp_path, cell1_balanced_0="fail")
    broken = tmp_path / "broken"
    ended = run(broken)
    assert states(broken) == ["finished", "failed", "finished"]
    assert ended.progress.statuses[CELLS[1]].reasons == ("balanced seed 0: no batches today",)
    scores = pd.read_parquet(broken / "scores.parquet")
    assert list(scores[scores.status == "failed"].cell) == [CELLS[1]]
    set_faults(tmp_path)
    run(broken)
    assert states(broken) == ["finished", "failed", "finished"]  # asked for no retry
    run(broken, retry_failed=True)
    assert states(broken) == ["finished"] * 3
    assert run_files(broken) == run_files(unbroken)
    for name in ("scores.parquet", "comparison.json", "status.json"):
        assert (broken / name).read_bytes() == (unbroken / name).read_bytes()


def test_runs_are_tried_that_did_not_fail_themselves(tmp_path: Path, unbroken: Path) -> None:
    """More seeds in a cell with a failed run; another cell in which the worker is killed."""
    broken = tmp_path / "broken"
    set_faults(tmp_path, cell0_balanced_0="fail", cell1_uniform_0="die")
    one_seed = dataclasses.replace(CONFIG, num_seeds=1)
    assert states_after(broken, one_seed) == ["failed", "killed", "finished"]
    set_faults(tmp_path, cell1_uniform_1="die")
    assert states_after(broken, CONFIG) == ["failed", "killed", "finished"]
    lacking = run_files(unbroken).keys() - run_files(broken).keys()
    assert sorted(path.rpartition("/")[2] for path in lacking) == [
        "balanced-0.npz",  # failed before: not tried again without being asked to
        "balanced-1.npz",  # of the cell that was killed over the run before
        "uniform-1.npz",
    ]
    failed = read_statuses(Store(broken), CELLS)[CELLS[0]]
    assert failed == CellStatus(
        "failed", ("balanced seed 0: no batches today",), (("balanced", 0),)
    )
    set_faults(tmp_path)
    run(broken, retry_failed=True)
    assert run_files(broken) == run_files(unbroken)


@pytest.mark.fault(59)
@pytest.mark.parametrize(("fault", "how"), [("die", "signal 9"), ("crash", "exit code 1")])
def test_a_killed_cell_leaves_the_others_alone_and_is_taken_up_again(
    tmp_path: Path, unbroken: Path, fault: str, how: str
) -> None:
    set_faults(tmp_path, cell0_uniform_1=fault)
    broken = tmp_path / "broken"
    ended = run(broken)
    assert states(broken) == ["killed", "finished", "finished"]
    (reason,) = ended.progress.statuses[CELLS[0]].reasons
    assert how in reason
    assert "uniform seed 1" in reason
    set_faults(tmp_path)
    run(broken)
    assert states(broken) == ["finished"] * 3
    assert run_files(broken) == run_files(unbroken)


@pytest.mark.fault(59)
def test_every_cell_may_be_killed_and_the_sweep_still_ends(tmp_path: Path) -> None:
    set_faults(tmp_path, **{f"cell{cell}_balanced_0": "die" for cell in range(3)})
    ended = run(tmp_path / "broken")
    assert states(tmp_path / "broken") == ["killed"] * 3
    verdicts = [entry["verdict"]["key"] for entry in ended.comparison["comparisons"]]
    assert verdicts == ["refused"] * 3


@pytest.mark.fault(61)
def test_what_an_ended_process_left_running_is_taken_up_again(
    tmp_path: Path, unbroken: Path
) -> None:
    broken = tmp_path / "broken"
    with closing(run_sweep(CONFIG, broken, RuntimeConfig())) as events:
        next(event for event in events if isinstance(event, messages.Stored))
    statuses = read_statuses(Store(broken), CELLS)
    write_statuses(Store(broken), statuses | {CELLS[0]: CellStatus("running")})
    assert 1 <= len(run_files(broken)) < 12
    run(broken)
    assert states(broken) == ["finished"] * 3
    assert run_files(broken) == run_files(unbroken)


def test_leaving_early_lets_the_worker_save_and_leaves_none_behind(tmp_path: Path) -> None:
    set_faults(tmp_path, cell0_uniform_0="wait")
    events = run_sweep(CONFIG, tmp_path / "sweep", RuntimeConfig())
    next(event for event in events if isinstance(event, messages.Started))
    events.close()
    assert multiprocessing.active_children() == []
    assert list(run_files(tmp_path / "sweep")) == [f"cells/{CELLS[0]}/runs/uniform-0.npz"]


def test_what_the_user_can_mend_is_an_error_of_the_sweep(tmp_path: Path) -> None:
    set_faults(tmp_path, cell1_uniform_0="refuse")
    with pytest.raises(ConfigError, match="No space left"):
        run(tmp_path / "sweep")
    set_faults(tmp_path)
    run(tmp_path / "sweep")
    assert states(tmp_path / "sweep") == ["finished"] * 3


def test_a_stop_after_which_not_all_is_saved_is_an_error(tmp_path: Path) -> None:
    for fault, error, message in (
        ("unsaved", ConfigError, "No space left"),
        ("lost", WorkerLost, "exit code 1 before it had saved"),
    ):
        set_faults(tmp_path, cell0_uniform_0=fault)
        events = run_sweep(CONFIG, tmp_path / "sweep", RuntimeConfig())
        next(event for event in events if isinstance(event, messages.Started))
        with pytest.raises(error, match=message):
            events.close()


def test_a_worker_that_refuses_to_start_leaves_the_sweep_as_it_was(
    tmp_path: Path, unbroken: Path
) -> None:
    (tmp_path / "faults.json").write_text('{"start": "refuse"}')
    grown = dataclasses.replace(CONFIG, num_seeds=3)
    before = (unbroken / "sweep.json").read_bytes()
    for directory in (unbroken, tmp_path / "new"):
        with pytest.raises(ConfigError, match="no such device"):
            run(directory, grown)
    assert (unbroken / "sweep.json").read_bytes() == before
    assert not (tmp_path / "new" / "sweep.json").exists()


def test_a_worker_that_cannot_start_is_no_cells_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "work", exit)
    with pytest.raises(WorkerLost, match="ended with exit code"):
        run(tmp_path / "sweep")


def test_a_worker_that_is_lost_between_runs_is_not_replaced_for_ever(tmp_path: Path) -> None:
    """Over a killed cell it is; the next time no run is in flight."""
    set_faults(tmp_path, cell0_uniform_0="die", cell1_uniform_0="crash between runs")
    with pytest.raises(WorkerLost, match="exit code 1"):
        run(tmp_path / "sweep")
    assert states(tmp_path / "sweep") == ["killed", "pending", "pending"]


def test_arms_and_seeds_may_grow_but_not_the_cells(unbroken: Path) -> None:
    before = run_files(unbroken)
    grown = SweepConfig(
        imbalance_factor=(4, 16, 64),
        num_seeds=3,
        train=TrainConfig(num_epochs=1),
        arms=("focal",),
    )
    run(unbroken, grown)
    after = run_files(unbroken)
    assert len(after) == 3 * 3 * 3  # balanced is kept
    assert before.items() <= after.items()
    with pytest.raises(ConfigError, match=r"another sweep \(cells\.mnist5k-long_tailed-64"):
        run(
            unbroken,
            SweepConfig(
                imbalance_factor=(4, 16), train=TrainConfig(num_epochs=1), arms=("balanced",)
            ),
        )
    assert run_files(unbroken) == after


def test_a_cell_that_kills_one_of_several_processes_is_left_out_the_next_time(
    tmp_path: Path,
) -> None:
    """The process that trains it does not hold the directory, and the others end with it."""
    sweep = tmp_path / "sweep"
    with open_store(sweep, SWEEP) as store:
        enter_sweep(CONFIG, store)
    set_faults(tmp_path, cell0_uniform_0="die")
    with pytest.raises(WorkerLost, match="signal 9; another process"):
        run(sweep, hosts=Hosts(process_id=1))
    assert not (sweep / "status.json").exists()
    run(sweep, hosts=Hosts(process_id=0))
    assert states(sweep) == ["killed", "finished", "finished"]
    assert not list(sweep.glob("killed-*"))
    set_faults(tmp_path)
    run(sweep, hosts=Hosts(process_id=0), retry_failed=True)
    assert states(sweep) == ["finished"] * 3


def test_a_share_derives_nothing_before_all_runs_are_there(tmp_path: Path) -> None:
    ended = run(tmp_path / "share", share=(0, 2))
    assert ended.comparison is None
    assert len(run_files(tmp_path / "share")) == 6
    assert not (tmp_path / "share" / "comparison.json").exists()


def test_a_share_of_failed_runs_derives_nothing_either(tmp_path: Path) -> None:
    mine = [f"cell{cell}_balanced_{seed}" for cell in range(3) for seed in range(2)]
    set_faults(tmp_path, **dict.fromkeys(mine, "fail"))
    share = tmp_path / "share"
    for _ in range(2):  # the second time there is nothing to try
        ended = run(share, share=(0, 2))
        assert ended.comparison is None
        assert states(share) == ["failed"] * 3
        assert run_files(share) == {}
