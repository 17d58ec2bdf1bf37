"""The page of findings, from what is kept of each study."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import jinja2
import msgspec
import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from cwjax.analysis.family import Comparison
from cwjax.analysis.looks import default_looks
from cwjax.analysis.metrics import METRICS
from cwjax.analysis.results import ArmSummary, StudyComparison
from cwjax.report import words
from cwjax.report.markdown import markdown_table
from cwjax.report.tables import Table
from cwjax.store.schema import RunHeader, StudyFile, from_json, read_study
from cwjax.study.judge import progress, split_sizes
from cwjax.training.runs import RunKey
from experiments.findings.studies import FADING_EPOCHS, STUDIES, fading_name
from experiments.findings.tables import TABLES

ROOT = Path(__file__).parent
KEPT = (
    *("study.json", "scores.parquet", "comparison.json", "log.jsonl"),
    *("history.parquet", "deployment.json"),
)
"""Files that are kept of a study; the last two only where there is one."""


@dataclass(frozen=True)
class _Logged:
    """A line of the log."""

    time: float
    event: str


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
    def history(self) -> pd.DataFrame:
        """A row per run and epoch."""
        return pd.read_parquet(self.path / "history.parquet")

    @cached_property
    def comparison(self) -> StudyComparison:
        """What was found."""
        content = (self.path / "comparison.json").read_bytes()
        return from_json(content, StudyComparison, "comparison.json")

    @cached_property
    def minutes(self) -> float:
        """How long it trained, over all the times that it was begun."""
        seconds, last = 0.0, None
        for line in (self.path / "log.jsonl").read_text("utf-8").splitlines():
            logged = msgspec.json.decode(line, type=_Logged)
            if logged.event == "training":
                last = logged.time
            elif last is not None:
                seconds += logged.time - last
                last = None if logged.event == "finished" else logged.time
        return seconds / 60

    @cached_property
    def runs(self) -> dict[RunKey, RunHeader]:
        """The runs that did not fail, as the table of scores has them."""
        return {
            (key := RunKey(row["cell"], row["arm"], row["seed"])): RunHeader(
                key=key,
                status=row["status"],
                scores={name: None if np.isnan(row[name]) else row[name] for name in METRICS},
                chosen={},
            )
            for row in self.scores.to_dict("records")
            if row["status"] != "failed"
        }

    def compared(self, arm: str, data: str = "", metric: str = "") -> Comparison:
        """The arm's comparison on a metric [default: the primary], in the cell that begins so."""
        name = metric or self.comparison.metric.name
        (found,) = (
            entry
            for entry in (*self.comparison.comparisons, *self.comparison.secondary)
            if entry.metric == name
            and entry.pairing.treatment == arm
            and entry.pairing.cell.startswith(data)
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


@functools.cache
def kept(name: str) -> Kept:
    """The study of this name."""
    return Kept(ROOT / name)


def difference(name: str, arm: str, data: str = "") -> str:
    """`+10.51 (+9.05 to +11.97)`: the difference and its simultaneous interval, in points."""
    judged = kept(name).compared(arm, data).judged
    assert judged is not None
    interval = words.interval(kept(name).comparison.metric, judged.interval)
    return f"{points(name, arm, data)} ({interval})"


def points(name: str, arm: str, data: str = "") -> str:
    """`+10.51`: the difference alone."""
    entry = kept(name).compared(arm, data)
    assert entry.estimates is not None
    return words.signed(kept(name).comparison.metric, entry.estimates.difference)


def new_test_sets(name: str, arm: str, data: str = "") -> str:
    """`+8.77 to +12.25`: the interval over new seeds and new test examples, in points."""
    return words.interval(
        kept(name).comparison.metric, kept(name).compared(arm, data).new_test_sets
    )


def verdict(name: str, arm: str, data: str = "") -> str:
    """The verdict in a few words."""
    return words.verdict_label(kept(name).compared(arm, data))


def mean(name: str, arm: str, data: str = "") -> str:
    """`75.31`: the mean over seeds, fractions in percent."""
    metric = kept(name).comparison.metric
    value = kept(name).summary(arm, data).scores[metric.name].mean
    assert value is not None
    return words.score(metric, value)


def mean_and_deviation(name: str, arm: str, data: str = "") -> str:
    """`75.31 ± 2.40`: the mean over seeds and the standard deviation of a run."""
    metric = kept(name).comparison.metric
    return f"{mean(name, arm, data)} ± {words.score(metric, spread(name, arm, data))}"


def spread(name: str, arm: str, data: str = "") -> float:
    """The standard deviation of a run's score over seeds, in the metric's own unit."""
    deviation = kept(name).summary(arm, data).scores[kept(name).comparison.metric.name].std
    assert deviation is not None
    return deviation


def num_seeds(name: str, arm: str, data: str = "") -> int:
    """Pairs of runs that the arm's comparison rests on."""
    return len(kept(name).compared(arm, data).seeds)


def arms_table(name: str, data: str = "") -> str:
    """The baseline's row, then a row per arm, the best first.

    Each has its mean and standard deviation, the difference with both intervals, and the verdict;
    where looks decided how many seeds an arm has, that number too.

    Args:
        name: of the study.
        data: of a study of several cells, how the cell's name begins.
    """
    study = kept(name).comparison
    metric, baseline, looks = study.metric, study.baseline, study.design.planned_looks
    entries = [e for e in study.comparisons if e.pairing.cell.startswith(data)]
    rows = []
    for entry in entries:
        assert entry.estimates is not None
        arm = entry.pairing.treatment
        row = (
            arm,
            mean_and_deviation(name, arm, data),
            difference(name, arm, data),
            new_test_sets(name, arm, data),
            verdict(name, arm, data),
            *([str(num_seeds(name, arm, data))] if looks else []),
        )
        gain = entry.estimates.difference * (1 if metric.higher_is_better else -1)
        rows.append((-gain, row))
    unit = f"{metric.title}, %" if metric.is_fraction else metric.title
    confidence = words.percent(study.confidence)
    headings = (
        *("arm", unit, f"difference, {words.unit(metric)} ({confidence} interval)"),
        *("new test sets", "verdict", *(["seeds"] if looks else [])),
    )
    first = (baseline, mean_and_deviation(name, baseline, data), *[""] * (len(headings) - 2))
    return markdown_table(Table("", headings, (first, *(row for _, row in sorted(rows)))))


def secondary(name: str, arm: str, metric: str, data: str = "") -> str:
    """`-3.12 (-4.01 to -2.23 alone)`: a difference in another metric.

    Its interval is that of this comparison by itself, not adjusted for the others.
    """
    found = kept(name).compared(arm, data, metric)
    assert found.estimates is not None
    used, value = METRICS[metric], found.estimates.difference
    return (
        f"{words.signed(used, value)} ({words.interval(used, found.estimates.seed_interval)} alone)"
    )


def single_runs(name: str, arm: str, metric: str) -> pd.Series:
    """A score of every run of an arm."""
    scores = kept(name).scores
    return scores.loc[scores["arm"] == arm, metric]


def curve(name: str, arm: str, column: str) -> pd.Series:
    """A column of the history after every epoch, from 1 on: the mean over an arm's runs."""
    history = kept(name).history
    return history[history["arm"] == arm].groupby("epoch")[column].mean()


def keras_runs(arm: str) -> pd.Series:
    """The accuracies of the notebook's own runs in Keras, in percent."""
    runs = pd.read_csv(ROOT / "notebook" / "keras.csv")
    return 100 * runs.loc[runs["arm"] == arm, "accuracy"]


def keras_difference(arm: str) -> str:
    """`-0.07 (-0.22 to +0.09)`: Keras's mean accuracy less that of cwjax, in points.

    With Welch's interval at 95%: the two have no runs in pairs.
    """
    keras, ours = keras_runs(arm), 100 * single_runs("notebook", arm, "accuracy")
    interval = ttest_ind(keras, ours, equal_var=False).confidence_interval()
    difference = keras.mean() - ours.mean()
    return f"{difference:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def still_learning(name: str) -> list[str]:
    """Arms whose runs were still learning when they ended, in a study of one cell."""
    (cell,) = kept(name).comparison.cells
    return list(cell.still_learning)


@dataclass(frozen=True)
class WithLooks:
    """A study that trained all its seeds, judged once more as if its results had been read early.

    Attributes:
        num_runs: that it trained.
        num_needed: that it would have trained with the looks that `--max-seeds` plans.
        num_comparisons: of its family.
        changed: arms that end with another verdict, with the p that the study itself found.
    """

    num_runs: int
    num_needed: int
    num_comparisons: int
    changed: tuple[str, ...]


def with_looks(name: str) -> WithLooks:
    """What planned looks would have saved a study, and what they would have changed."""
    study, runs = kept(name).study, kept(name).runs
    looks = default_looks(len(study.seeds), study.analysis.confidence)
    looked = progress(replace(study, looks=looks, judgings=()), runs)
    assert looked.judged is not None
    found = {entry.pairing: entry.verdict for entry in looked.judged.comparisons}
    family = [e for e in kept(name).comparison.comparisons if not e.pairing.control]
    changed = tuple(
        f"{entry.pairing.treatment} (p = {words.p_value(entry.judged.p)})"
        for entry in family
        if (now := found[entry.pairing]) and entry.verdict and now.key != entry.verdict.key
        if entry.judged is not None and entry.judged.p is not None
    )
    return WithLooks(len(study.run_keys), len(looked.expected), len(family), changed)


def saved(name: str) -> tuple[int, int]:
    """Runs of a study with looks: those that it has, and those that it would have without."""
    design = kept(name).comparison.design
    return design.num_runs, design.num_runs_without_looks


def minutes(name: str) -> str:
    """How long the study trained, to two digits or whole minutes."""
    value = kept(name).minutes
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def kept_studies() -> list[str]:
    """The names of the studies that are kept."""
    return [name for name in STUDIES if (ROOT / name / "study.json").exists()]


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
    environment.globals.update(
        studies=STUDIES,
        fading_epochs=FADING_EPOCHS,
        fading_name=fading_name,
        tables=TABLES,
        kept_studies=kept_studies(),
        minutes=minutes,
        difference=difference,
        points=points,
        new_test_sets=new_test_sets,
        verdict=verdict,
        mean=mean,
        num_seeds=num_seeds,
        arms_table=arms_table,
        secondary=secondary,
        single_runs=single_runs,
        curve=curve,
        with_looks=with_looks,
        keras_runs=keras_runs,
        keras_difference=keras_difference,
        still_learning=still_learning,
        saved=saved,
        spread=spread,
        without_looks=[
            name
            for name in kept_studies()
            if split_sizes(kept(name).study) is None and not kept(name).study.looks
        ],
        with_planned_looks=[name for name in kept_studies() if kept(name).study.looks],
    )
    return environment.get_template("page.md.jinja").render()
