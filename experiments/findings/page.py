"""The page of findings, from what is kept of each study."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2
import pandas as pd

from cwjax.analysis.family import Comparison
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.results import ArmSummary, DeploymentFacts, StudyComparison
from cwjax.report import tables, words
from cwjax.report.markdown import markdown_table
from cwjax.store.schema import StudyFile, from_json, read_study

ROOT = Path(__file__).parent
KEPT = ("study.json", "scores.parquet", "comparison.json", "deployment.json")
"""Files that are kept of a study; the last only where there is one."""


@dataclass(frozen=True)
class Kept:
    """What is kept of one study."""

    path: Path

    @cached_property
    def study(self) -> StudyFile:
        """What was trained."""
        return read_study((self.path / "study.json").read_bytes(), "study.json")

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row per run."""
        return pd.read_parquet(self.path / "scores.parquet")

    @cached_property
    def comparison(self) -> StudyComparison:
        """What was found."""
        content = (self.path / "comparison.json").read_bytes()
        return from_json(content, StudyComparison, "comparison.json")

    @cached_property
    def deployment(self) -> tuple[DeploymentFacts, ...]:
        """How the models do in use."""
        content = (self.path / "deployment.json").read_bytes()
        return from_json(content, tuple[DeploymentFacts, ...], "deployment.json")

    def compared(self, arm: str, data: str = "") -> Comparison:
        """The arm's comparison on the primary metric, in the cell whose name begins so."""
        (found,) = (
            entry
            for entry in self.comparison.comparisons
            if entry.pairing.treatment == arm and entry.pairing.cell.startswith(data)
        )
        return found

    def summary(self, arm: str, data: str = "") -> ArmSummary:
        """The arm's runs in the cell whose name begins so."""
        (found,) = (
            summary
            for summary in self.comparison.summaries
            if summary.arm == arm and summary.cell.startswith(data)
        )
        return found


def kept(name: str) -> Kept:
    """The study of this name."""
    return Kept(ROOT / name)


def difference(name: str, arm: str, data: str = "") -> str:
    """`+10.51 (+9.05 to +11.97)`: the difference and its simultaneous interval, in points."""
    entry, metric = kept(name).compared(arm, data), kept(name).comparison.metric
    assert entry.estimates is not None
    assert entry.judged is not None
    return (
        f"{words.signed(metric, entry.estimates.difference)} "
        f"({words.interval(metric, entry.judged.interval)})"
    )


def new_test_sets(name: str, arm: str, data: str = "") -> str:
    """`+8.77 to +12.25`: the interval over new seeds and new test examples, in points."""
    return words.interval(
        kept(name).comparison.metric, kept(name).compared(arm, data).new_test_sets
    )


def verdict(name: str, arm: str, data: str = "") -> str:
    """The verdict in a few words."""
    return words.verdict_label(kept(name).compared(arm, data))


def mean(name: str, arm: str, metric: str = "", data: str = "") -> str:
    """`75.31`: the mean over seeds, fractions in percent."""
    used = _metric(name, metric)
    value = kept(name).summary(arm, data).scores[used.name].mean
    assert value is not None
    return words.score(used, value)


def num_seeds(name: str, arm: str, data: str = "") -> int:
    """Pairs of runs that the arm's comparison rests on."""
    return len(kept(name).compared(arm, data).seeds)


def scores(name: str, *metrics: str) -> str:
    """Every arm's means and standard deviations, as a table."""
    chosen = [METRICS[metric] for metric in metrics] or None
    return markdown_table(tables.scores(kept(name).comparison, chosen))


def differences(name: str) -> str:
    """Every comparison with its intervals and verdict, as a table."""
    return markdown_table(tables.differences(kept(name).comparison))


def _metric(name: str, metric: str) -> Metric:
    return METRICS[metric] if metric else kept(name).comparison.metric


def render() -> str:
    """`docs/findings.md`, every number of it from the kept files.

    Raises:
        OSError: a study that the page speaks of is not there.
        jinja2.TemplateError: the page asks for something that does not exist.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    from experiments.findings.studies import STUDIES

    environment.globals.update(
        studies=STUDIES,
        difference=difference,
        new_test_sets=new_test_sets,
        verdict=verdict,
        mean=mean,
        num_seeds=num_seeds,
        scores=scores,
        differences=differences,
    )
    return environment.get_template("page.md.jinja").render()
