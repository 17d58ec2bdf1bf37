"""A LaTeX table whose numbers and marks are those of the comparison."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from drawn_runs import SWEEP, SWEEP_EFFECTS, write_study

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.rules import Rules
from cwjax.report.csv_scores import CsvScores, compare_scores
from cwjax.report.latex import escape, latex_table
from cwjax.store.directory import StudyDirectory
from cwjax.study.derive import compare

METRIC = METRICS["accuracy"]


def table() -> str:
    base = np.linspace(0.7, 0.8, 10)
    noise = np.array([3, -1, 2, -2, 1, -3, 2, -2, 1, -1]) * 1e-3
    scores = {
        "uniform": base,
        "a_b%": base + 0.05 + noise,
        "c": base - 0.05 + noise,
        "d": base + noise,
    }
    by_seed = {arm: dict(enumerate(values.tolist())) for arm, values in scores.items()}
    rules = Rules(metric=METRIC)
    return latex_table(compare_scores(CsvScores("x", METRIC, by_seed), "uniform", rules))


def test_rows_have_mean_std_and_marks_of_significance() -> None:
    rows = [line for line in table().splitlines() if line.endswith(r"\\")]
    assert rows == [
        r"arm & seeds & accuracy \\",
        r"uniform & 10 & 75.00 $\pm$ 3.36 \\",
        r"a\_b\% & 10 & 80.00 $\pm$ 3.31$^{\ast}$ \\",
        r"c & 10 & 70.00 $\pm$ 3.31$^{\dagger}$ \\",
        r"d & 10 & 75.00 $\pm$ 3.31 \\",
    ]


def test_it_is_a_whole_booktabs_table() -> None:
    lines = [line for line in table().splitlines() if not line.startswith("%")]
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[-1] == r"\end{tabular}"
    assert [line for line in lines if re.fullmatch(r"\\\w+rule", line)] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]


def test_the_cells_of_a_sweep_stand_below_one_another(tmp_path: Path) -> None:
    write_study(tmp_path / "sweep", SWEEP_EFFECTS, 10, data=SWEEP)
    lines = latex_table(compare(StudyDirectory(tmp_path / "sweep"))).splitlines()
    assert r"\begin{tabular}{llrrrrr}" in lines
    assert lines.count(r"\midrule") == 3
    marked = [line for line in lines if r"$^{\ast}$" in line and not line.startswith("%")]
    assert marked[-1].startswith(r"balanced & mnist5k, long-tailed, imbalance factor 64 & 10 & ")
    assert sum(line.startswith("uniform & ") for line in lines) == 3
    note = next(line for line in lines if "6 comparisons" in line)
    assert "judged together by flipping the signs of seeds" in note
    assert "Holm" not in note


@pytest.mark.fault(63)
def test_names_come_out_as_text() -> None:
    assert escape("a_b & 100% {x} \\input\n$y$ ~^#") == (
        r"a\_b \& 100\% \{x\} \textbackslash{}input \$y\$ \textasciitilde{}\textasciicircum{}\#"
    )
    assert escape("<script>") == r"\textless{}script\textgreater{}"
