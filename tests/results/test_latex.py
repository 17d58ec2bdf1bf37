"""A LaTeX table whose numbers and marks are those of the comparison."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cwjax.results.csv_scores import compare_scores
from cwjax.results.latex import escape, latex_table

from cwjax.analysis.metrics import METRICS
from cwjax.analysis.rules import Rules

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
    return latex_table(compare_scores(by_seed, "uniform", Rules(metric=METRIC)), [METRIC])


def test_rows_have_mean_std_and_marks_of_significance() -> None:
    rows = [line for line in table().splitlines() if line.endswith(r"\\")]
    assert rows == [
        r"arm & $n$ & accuracy \\",
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


@pytest.mark.fault(63)
def test_names_come_out_as_text() -> None:
    assert escape("a_b & 100% {x} \\input\n$y$ ~^#") == (
        r"a\_b \& 100\% \{x\} \textbackslash{}input \$y\$ \textasciitilde{}\textasciicircum{}\#"
    )
    assert escape("<script>") == r"\textless{}script\textgreater{}"
