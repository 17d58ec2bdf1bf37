"""The table of arms for a paper, from the same numbers as every other table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cwjax.analysis.metrics import Metric
from cwjax.results.summary import UNDEFINED, mean_std, shown_metrics

_MARKS = {"better": r"$^{\ast}$", "worse": r"$^{\dagger}$"}

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex_table(comparison: Mapping[str, Any], metrics: Sequence[Metric] | None = None) -> str:
    r"""A booktabs table: mean ± standard deviation over seeds, with marks of significance.

    Only the primary metric is judged, so only its column carries marks.

    Args:
        comparison: the content of `comparison.json`.
        metrics: the columns, the primary metric first [default: those of the other tables].
    """
    primary, *others = metrics or shown_metrics(comparison)
    verdicts = {
        entry["treatment"]: entry["verdict"]["key"]
        for entry in comparison["comparisons"]
        if not entry["control"]
    }
    rows = []
    for arm in comparison["arms"]:
        cells = [_cell(metric, arm["scores"][metric.name]) for metric in (primary, *others)]
        cells[0] += _MARKS.get(verdicts.get(arm["arm"], ""), "")
        rows.append(" & ".join([escape(arm["arm"]), str(arm["num_ok"]), *cells]) + r" \\")
    headings = ["arm", "$n$", *(escape(metric.title) for metric in (primary, *others))]
    confidence = f"{100 * comparison['confidence']:g}"
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{tabular}{lr" + "r" * (1 + len(others)) + "}",
            r"\toprule",
            " & ".join(headings) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            rf"% Mean $\pm$ standard deviation over $n$ seeds. $^{{\ast}}$ better, $^{{\dagger}}$ "
            f"worse than {escape(comparison['baseline'])}:",
            rf"% the {confidence}\% interval of the paired differences excludes 0 and the "
            "sign-flip test, adjusted after Holm, is significant.",
            "",
        ]
    )


def _cell(metric: Metric, score: Mapping[str, float | None]) -> str:
    return mean_std(metric, score, r" $\pm$ ").replace(UNDEFINED, "--")


def escape(text: str) -> str:
    """Text that means itself in LaTeX, on one line."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))
