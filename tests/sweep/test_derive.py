"""All cells of a sweep are one family; its tables tell every run, its trend every seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from cwjax.results.store import Store
from cwjax.sweep.derive import derive_sweep
from cwjax.sweep.directory import CellStatus, cell_directory, write_statuses
from drawn_sweeps import EFFECTS, FACTORS, make_sweep, write_sweep

from cwjax.analysis.stats import holm


@pytest.fixture
def sweep_directory(tmp_path: Path) -> Path:
    """Three factors, three arms, ten seeds; nothing is derived yet."""
    write_sweep(tmp_path / "sweep", make_sweep(), EFFECTS)
    return tmp_path / "sweep"


def test_p_values_are_adjusted_over_all_cells(sweep_directory: Path) -> None:
    comparison = derive_sweep(Store(sweep_directory))
    entries = comparison["comparisons"]
    assert [(e["cell"], e["treatment"]) for e in entries] == [
        (cell, arm) for cell in EFFECTS for arm in ("balanced", "focal")
    ]
    assert {e["evidence"]["num_comparisons"] for e in entries} == {6}
    adjusted = holm([e["estimates"]["p_value"] for e in entries])
    assert [e["evidence"]["p_holm"] for e in entries] == pytest.approx(adjusted)
    for cell in EFFECTS:  # a cell's own report gives the family's verdict, not a milder one
        own = json.loads((cell_directory(sweep_directory, cell) / "comparison.json").read_text())
        assert own["comparisons"] == [e for e in json_like(entries) if e["cell"] == cell]


def json_like(content: object) -> object:
    return json.loads(json.dumps(content))


def test_the_trend_is_one_slope_a_seed_over_the_logarithm_of_the_factor(
    sweep_directory: Path,
) -> None:
    trends = derive_sweep(Store(sweep_directory))["trends"]
    scores = pd.read_parquet(sweep_directory / "scores.parquet")
    by_arm = scores.pivot(
        index=["seed", "imbalance_factor"], columns="arm", values="balanced_accuracy"
    )
    for trend in trends:
        difference = (by_arm[trend["treatment"]] - by_arm["uniform"]).unstack()
        slopes = [np.polyfit(np.log2(FACTORS), row, 1)[0] for row in difference.to_numpy()]
        assert trend["seed_slopes"] == pytest.approx(slopes)
        low, high = scipy.stats.t.interval(
            0.95, len(slopes) - 1, np.mean(slopes), scipy.stats.sem(slopes)
        )
        assert (trend["interval"]["ci_low"], trend["interval"]["ci_high"]) == pytest.approx(
            (low, high)
        )
    assert [t["treatment"] for t in trends] == ["balanced", "focal"]
    assert trends[0]["interval"]["ci_low"] > 0
    assert trends[0]["factors"] == list(FACTORS)


def test_every_run_has_its_row_and_the_same_runs_give_the_same_bytes(sweep_directory: Path) -> None:
    derive_sweep(Store(sweep_directory))
    names = ["scores.parquet", "comparison.json", "report.html", "report.md"]
    first = [(sweep_directory / name).read_bytes() for name in names]
    scores = pd.read_parquet(sweep_directory / "scores.parquet")
    assert len(scores) == 3 * 3 * 10
    assert list(scores.columns[:6]) == [
        "cell", "dataset", "imbalance", "imbalance_factor", "arm", "seed"
    ]  # fmt: skip
    assert set(scores.status) == {"ok"}
    derive_sweep(Store(sweep_directory))
    assert [(sweep_directory / name).read_bytes() for name in names] == first


@pytest.mark.fault(58)
def test_a_failed_cell_is_refused_and_the_others_are_judged(tmp_path: Path) -> None:
    failed, *others = EFFECTS
    write_sweep(tmp_path, make_sweep(), EFFECTS, missing=[(failed, "focal", 3)])
    store = Store(tmp_path)
    statuses = {cell: CellStatus("finished") for cell in others}
    statuses[failed] = CellStatus("failed", ("focal seed 3: <no> memory",))
    write_statuses(store, statuses)
    comparison = derive_sweep(store)
    verdicts = {(e["cell"], e["treatment"]): e["verdict"] for e in comparison["comparisons"]}
    assert verdicts[failed, "focal"]["key"] == "refused"
    assert "focal seed 3 (failed)" in verdicts[failed, "focal"]["words"]
    assert verdicts[failed, "balanced"]["key"] != "refused"
    assert verdicts[others[-1], "balanced"]["key"] == "better"
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    row = scores[(scores.cell == failed) & (scores.arm == "focal") & (scores.seed == 3)]
    assert list(row.status) == ["failed"]
    assert row.balanced_accuracy.isna().all()
    page = (tmp_path / "report.html").read_text()
    assert "focal seed 3: &lt;no&gt; memory" in page
    assert not (cell_directory(tmp_path, failed) / "report.html").exists()
    assert f"cells/{others[0]}/report.html" in page
    assert f"cells/{failed}/report.html" not in page


def test_the_report_shows_the_verdict_of_every_cell(sweep_directory: Path) -> None:
    comparison = derive_sweep(Store(sweep_directory))
    page = (sweep_directory / "report.html").read_text()
    markdown = (sweep_directory / "report.md").read_text()
    for entry in comparison["comparisons"]:
        printed = f"{100 * entry['estimates']['difference']:+.2f}"
        assert printed in page
        assert printed in markdown
    assert page.count("<img ") == 2  # a heat map an arm
    assert "All 6 comparisons are one family" in page
    for figure in ("heat_map_0.svg", "heat_map_1.svg"):
        assert (sweep_directory / "figures" / figure).is_file()
