"""What a terminal shows: tables that fit, progress that counts."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from rich.console import Console

from cwjax.config import ExperimentConfig
from cwjax.events import Event, Finished, Planned, RunStored, StepsFinished
from cwjax.plan import Plan, make_plan
from cwjax.results.record import trained_record
from experiments import display

ROWS = [
    {"arm": "effective_number:beta=0.99:scale=3", "n": "10", "balanced accuracy": "12.34 ± 0.56",
     "macro-F1": "12.34 ± 0.56", "worst-class recall": "0.00 ± 0.00", "loss": "1.2345 ± 0.6789"},
]  # fmt: skip


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_tables_fit_and_numbers_are_never_broken(width: int) -> None:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    display.print_table(console, "scores", ROWS, 2)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "12.34 ± 0.56" in text
    assert ("1.2345 ± 0.6789" in text) == (width == 200)


@pytest.fixture
def plan(tiny_config: ExperimentConfig) -> Plan:
    return make_plan(tiny_config)


def stored(arm: str, seed: int, shift: int, plan: Plan) -> RunStored:
    """A run that is right on all test examples but the last `shift`."""
    labels = plan.dataset.test_labels
    logits = np.eye(3, dtype=np.float32)[labels]
    if shift:
        logits[-shift:] = [1, 0, 0]
    counts = np.ones(3, np.int64)
    record = trained_record(
        arm=arm, seed=seed, history=[{"train_loss": 1.0}], test_logits=logits, test_labels=labels,
        validation_logits=logits, class_counts=counts, class_weights=counts, head_kernel=logits,
        head_bias=counts,
    )  # fmt: skip
    return RunStored(record)


def events(plan: Plan) -> Iterator[Event]:
    yield Planned((plan,), num_runs=4, num_finished=0, num_epochs=8, num_examples=400)
    yield StepsFinished(100)
    yield stored("uniform", 0, 6, plan)
    yield stored("balanced", 0, 3, plan)  # 3 of 60 examples, 5 points of balanced accuracy
    yield Finished({"num_ok_runs": 2})


def test_lines_tell_runs_speed_and_running_differences(
    plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LINE_SECONDS", -1)
    assert display.follow(events(plan), plan, quiet=False) == {"num_ok_runs": 2}
    last = capsys.readouterr().err.splitlines()[-1]
    assert "run 2/4, epoch 0/8" in last
    assert "s left" in last
    assert "balanced +5.00 (n=1)" in last
    display.follow(events(plan), plan, quiet=True)
    assert capsys.readouterr().err == ""


def test_bar_tells_the_same(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(display.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        display, "Console", lambda **_: Console(file=stream, force_terminal=True, width=120)
    )
    display.follow(events(plan), plan, quiet=False)
    assert "run 2/4, epoch 0/8" in stream.getvalue()
    assert "balanced +5.00 (n=1)" in stream.getvalue()
