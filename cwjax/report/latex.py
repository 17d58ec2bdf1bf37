"""The table of arms for a paper, from the same numbers as every other table."""

from __future__ import annotations

from cwjax.analysis.results import StudyComparison
from cwjax.report import tables, words

_MARKS = {"better": r"$^{\ast}$", "worse": r"$^{\dagger}$"}

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "–": "--",
    "×": r"$\times$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex_table(study: StudyComparison) -> str:
    r"""A booktabs table: mean ± standard deviation over seeds, with marks of significance.

    Only the primary metric is judged, so only its column carries marks.

    Args:
        study: of one cell or of several, whose rows stand below one another.
    """
    table = tables.scores(study)
    verdicts = {
        (entry.pairing.cell, entry.pairing.treatment): entry.verdict.key
        for entry in study.judged
        if entry.verdict is not None
    }
    lines, cell = [], study.summaries[0].cell
    for summary, row in zip(study.summaries, table.rows, strict=True):
        cells = [escape(str(text)) for text in row]
        cells[table.num_names + 1] += _MARKS.get(verdicts.get((summary.cell, summary.arm), ""), "")
        if summary.cell != cell:
            lines.append(r"\midrule")
            cell = summary.cell
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{tabular}{"
            + "l" * table.num_names
            + "r" * (len(table.headings) - table.num_names)
            + "}",
            r"\toprule",
            " & ".join(map(escape, table.headings)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            f"% {escape(table.caption)}.",
            rf"% $^{{\ast}}$ better, $^{{\dagger}}$ worse than {escape(study.baseline)}.",
            f"% {escape(words.family_sentence(study))}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Text that means itself in LaTeX, on one line."""
    return "".join(_SPECIAL.get(character, character) for character in words.one_line(text))
