"""For notebooks and programs: studies of arrays in memory, and what a comparison found."""

from __future__ import annotations

import html
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from cwjax.analysis.decision import Verdict
from cwjax.analysis.family import Comparison, Pair, Seeds, compare_family
from cwjax.analysis.intervals import finite_array
from cwjax.analysis.metrics import Metric, find_metric
from cwjax.analysis.paired import Judged
from cwjax.analysis.pairing import ArmScores, Pairing
from cwjax.analysis.results import StudyComparison
from cwjax.analysis.rules import Rules
from cwjax.analysis.stats import PairedEstimates
from cwjax.config import (
    AnalysisConfig,
    DataConfig,
    RuntimeConfig,
    StudyConfig,
    TestSplit,
    TrainConfig,
)
from cwjax.data.arrays import dataset_from_arrays
from cwjax.data.dataset import Dataset
from cwjax.data.sources import ReadOptions
from cwjax.errors import ConfigError, check_name
from cwjax.models.estimators import is_estimator
from cwjax.models.registry import register_model
from cwjax.report import words
from cwjax.store.directory import StudyDirectory
from cwjax.store.files import check_new_file

if TYPE_CHECKING:  # half a second, and not needed by `paired_comparison`
    import pandas as pd

    from cwjax.study.plan import Plan


@dataclass(frozen=True)
class Figure:
    """A figure of a report, as a notebook shows it."""

    name: str
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


class Study:
    """A finished study: what was found, in data frames, figures and a report.

    A notebook shows its verdicts; `print` gives them in words.

    Attributes:
        directory: of its runs and everything that is derived from them.
        comparison: every fact that the report states.
    """

    def __init__(self, directory: Path, comparison: StudyComparison) -> None:
        self.directory = directory
        self.comparison = comparison

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """A row per comparison: data, arm, verdict, difference with its interval, p, seeds.

        Differences are fractions where the metric is one; `ci_low` and `ci_high` hold for all
        comparisons together.
        """
        import pandas as pd

        rows = []
        for entry in self.comparison.comparisons:
            judged, interval = entry.judged, None if entry.judged is None else entry.judged.interval
            rows.append(
                {
                    "cell": entry.pairing.cell,
                    "arm": entry.pairing.treatment,
                    "baseline": entry.pairing.baseline,
                    "verdict": words.verdict_label(entry),
                    "difference": None if judged is None else judged.difference,
                    "ci_low": None if interval is None else interval.ci_low,
                    "ci_high": None if interval is None else interval.ci_high,
                    "p": None if judged is None else judged.p,
                    "num_seeds": len(entry.seeds),
                    "sentence": words.full_verdict(entry, self.comparison.metric),
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row per run: cell, arm, seed, status and every metric on the test split."""
        import pandas as pd

        return pd.read_parquet(self.directory / "scores.parquet")

    @cached_property
    def differences(self) -> pd.DataFrame:
        """A row per comparison, metric and seed: the arm's score less the baseline's."""
        import pandas as pd

        entries = (*self.comparison.comparisons, *self.comparison.secondary)
        return pd.DataFrame(
            [
                (entry.pairing.cell, entry.pairing.treatment, entry.metric, seed, difference)
                for entry in entries
                for seed, difference in zip(entry.seeds, entry.differences, strict=True)
            ],
            columns=["cell", "arm", "metric", "seed", "difference"],
        )

    @property
    def figures(self) -> list[str]:
        """Names for `figure`."""
        return sorted(path.stem for path in self.directory.glob("figures/*.svg"))

    def figure(self, name: str) -> Figure:
        """A figure of the report.

        Raises:
            ConfigError: there is none of that name.
        """
        check_name("name", name, self.figures)
        return Figure(name, (self.directory / "figures" / f"{name}.svg").read_text("utf-8"))

    def report(self, path: Path | str) -> Path:
        """Writes the report to a file of HTML that needs no other file.

        Raises:
            ConfigError: the path is a directory, or lies in none that exists.
        """
        path = Path(path)
        check_new_file("path is", path)
        shutil.copyfile(self.directory / "report.html", path)
        return path

    def export(
        self,
        path: Path | str,
        *,
        arm: str | None = None,
        seed: int | None = None,
        cell: str | None = None,
    ) -> Path:
        """Writes a trained model to a directory, for `cwjax.load_model`: `cwjax export` in Python.

        Args:
            path: of the directory, a new one.
            arm: its arm.
            seed: its seed; without arm or seed the best of these runs on validation is taken.
            cell: where the study has several.

        Raises:
            ConfigError: see `study.export.export`; the study must have been trained with
                `RuntimeConfig(keep_models=True)`.
        """
        from cwjax.study.export import chosen_run, export

        directory = StudyDirectory(self.directory)
        key = chosen_run(
            directory, cell=cell, arm=arm, seed=seed, best_on_validation=None in (arm, seed)
        )
        export(directory, key, Path(path))
        return Path(path)

    def __str__(self) -> str:
        return "\n".join(self._sentences())

    def _sentences(self) -> list[str]:
        metric = self.comparison.metric
        return [words.full_verdict(entry, metric) for entry in self.comparison.comparisons]

    def _repr_html_(self) -> str:
        sentences = "".join(f"<li>{html.escape(text)}</li>" for text in self._sentences())
        picture = self.figure("differences").svg if "differences" in self.figures else ""
        title = html.escape(words.headline(self.comparison))
        return f"<p><b>{title}</b></p><ul>{sentences}</ul>{picture}"


def compare(
    data: Any,
    labels: Any = None,
    *,
    arms: Sequence[str] = ("uniform", "balanced"),
    seeds: int | Sequence[int] = 10,
    max_seeds: int | None = None,
    model: str | Callable[..., Any] | None = None,
    test: tuple[Any, Any] | None = None,
    test_split: TestSplit | None = None,
    groups: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    metric: str = "balanced_accuracy",
    smallest_effect: float | None = None,
    confidence: float = 0.95,
    train: TrainConfig | None = None,
    runtime: RuntimeConfig | None = None,
    directory: Path | str | None = None,
    progress: bool = True,
) -> Study:
    """Trains every arm on every seed and judges the arms: the command `cwjax compare` in Python.

    Args:
        data: images `[n, height, width(, channels)]`, uint8, features `[n, num_features]`, or a
            data frame of numbers and categories; with `labels`. Or, alone: a `Dataset`, a
            `DataConfig`, or a source's name as `--dataset` takes it.
        labels: `[n]`, of any type.
        arms: as `--arms` takes them; `focal:best` is tuned on validation, `uniform:best` too.
        seeds: how many, or which.
        max_seeds: train until the answer is known, on at most so many seeds (instead of `seeds`).
        model: as `--model` takes it; or a class or function that makes an `nnx.Module`, called with
            those of `input_shape`, `num_classes` and `rngs` that it has parameters for.
        test: inputs and labels of a test split; without one a stratified fifth is held out.
        test_split: `per-seed` lets each seed hold out a fifth of its own; `fixed` by default, but
            for estimators without a test split.
        groups: `[n]`: examples of one group never stand on both sides of a split.
        class_names: one name per class, for labels 0, 1, ….
        metric: the one that is judged.
        smallest_effect: the smallest difference that would matter, in the unit of the metric.
        confidence: of all intervals together.
        train: how every run is trained.
        runtime: how to use the machine; `RuntimeConfig(keep_models=True)` for `Study.export`.
        directory: of the results, new or to be continued; without one they are kept until the
            study is forgotten.
        progress: show the plan and a bar.

    Returns:
        The finished study.

    Raises:
        ConfigError: (a ValueError) an argument that cannot be used.
    """
    from cwjax.study.plan import lay_out, load_datasets, parse_design, split_anew

    check_arguments(
        arms, seeds, metric, test, directory,
        train=(train, TrainConfig), runtime=(runtime, RuntimeConfig),
    )  # fmt: skip
    if (labels is None) != isinstance(data, str | Dataset | DataConfig):
        raise ConfigError("labels go with arrays, and with them alone: give X and y, or a source")
    given = {"test": test, "groups": groups, "class_names": class_names}
    useless = [name for name, value in given.items() if value is not None and labels is None]
    if useless:
        raise ConfigError(f"{useless[0]} goes with arrays: leave it out")
    if labels is not None:
        data = dataset_from_arrays(data, labels, test=test, groups=groups, class_names=class_names)
    if isinstance(data, DataConfig) and test_split is not None:
        raise ConfigError("test_split goes with arrays or a source: set it in the DataConfig")
    where, train = data_config(data, test_split or "fixed"), train or TrainConfig()
    if model is not None:
        name = model if isinstance(model, str) else register_model(model)
        train = replace(train, model=name)
    config = StudyConfig(
        data=(where,),
        arms=tuple(arms),
        train=train,
        analysis=AnalysisConfig(
            metric=metric, smallest_effect=smallest_effect, confidence=confidence
        ),
        num_seeds=seeds if isinstance(seeds, int) else len(seeds),
        seeds=None if isinstance(seeds, int) else tuple(seeds),
        max_seeds=max_seeds,
    )
    runtime = runtime or RuntimeConfig()
    design, cells = parse_design(config), config.data
    if isinstance(data, Dataset):
        datasets = {where.dataset: data}
    else:
        datasets = load_datasets(cells, ReadOptions(runtime.data_dir))
    if is_estimator(train.model) and test_split is None and not isinstance(data, DataConfig):
        cells = split_anew(config, datasets)
    plan = lay_out(design, cells, datasets)
    return train_plan(plan, directory, runtime, show_progress=progress)


def check_arguments(
    arms: Any, seeds: Any, metric: Any, test: Any, directory: Any, **further: tuple[Any, type]
) -> None:
    """Checks the types of what a program gives, as flags of a command are.

    Args:
        arms: texts, not a single one; or None.
        seeds: a whole number or several.
        metric: a text.
        test: a pair, or None.
        directory: a path, or None.
        **further: arguments that may be None, each with its type.

    Raises:
        ConfigError: naming the first that cannot be used.
    """
    listed = isinstance(arms, Sequence) and not isinstance(arms, str)
    _require(arms is None or listed, "arms", arms, "a list, e.g. ['uniform', 'balanced']")
    numbers = isinstance(seeds, Sequence) and all(isinstance(seed, int) for seed in seeds)
    _require(isinstance(seeds, int) or numbers, "seeds", seeds, "a number of seeds or a list")
    _require(isinstance(metric, str), "metric", metric, "a name, e.g. 'balanced_accuracy'")
    pair = isinstance(test, tuple | list) and len(test) == 2
    _require(test is None or pair, "test", type(test).__name__, "a pair, (X_test, y_test)")
    place = isinstance(directory, str | Path)
    _require(directory is None or place, "directory", directory, "a path")
    for name, (value, kind) in further.items():
        _require(value is None or isinstance(value, kind), name, value, f"a {kind.__name__}")


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value!r:.80}: give {wanted}")


def data_config(data: Any, test_split: TestSplit) -> DataConfig:
    """The data of the study's one cell; a data set in memory is named like the file it could be."""
    if isinstance(data, DataConfig):
        return data
    if isinstance(data, str):
        return DataConfig(dataset=data, test_split=test_split)
    kind = "features" if data.is_features else "npz"
    return DataConfig(dataset=f"{kind}:{data.name}.npz", test_split=test_split)


def train_plan(
    plan: Plan, directory: Path | str | None, runtime: RuntimeConfig, *, show_progress: bool
) -> Study:
    """Trains what is missing of a plan, and opens the study.

    Args:
        plan: of the study.
        directory: as in `compare`.
        runtime: how to use the machine.
        show_progress: print the plan and draw a bar.
    """
    from cwjax.cli.progress import follow
    from cwjax.study.run import run_plan

    path = Path(tempfile.mkdtemp(prefix="cwjax-")) if directory is None else Path(directory)
    try:
        with closing(run_plan(plan, path, runtime)) as events:
            finished = follow(events, path, quiet=not show_progress)
    except BaseException:
        if directory is None:
            shutil.rmtree(path)
        raise
    study = Study(path, finished.comparison)
    if directory is None:
        weakref.finalize(study, shutil.rmtree, path)
    return study


def open_study(directory: Path | str) -> Study:
    """A study that was trained before, from its directory; its report is written if there is none.

    Raises:
        ConfigError: it holds no study, or one that is not finished.
    """
    from cwjax.store.directory import open_study
    from cwjax.study.derive import compare, derive

    StudyDirectory(Path(directory)).known_study()  # nothing is created where there is none
    with open_study(Path(directory)) as opened:
        is_derived = (opened.path / "comparison.json").exists()
        return Study(Path(directory), compare(opened) if is_derived else derive(opened))


@dataclass(frozen=True)
class PairedComparison:
    """Two arms compared; `str` of it is the verdict in a sentence."""

    comparison: Comparison
    metric: Metric

    @property
    def estimates(self) -> PairedEstimates:
        """Means, spread, difference, P(better)."""
        assert self.comparison.estimates is not None  # there is always a pair
        return self.comparison.estimates

    @property
    def judged(self) -> Judged:
        """What the verdict rests on: p, interval, whether the difference is established."""
        assert self.comparison.judged is not None
        return self.comparison.judged

    @property
    def verdict(self) -> Verdict:
        """The verdict as a key, e.g. `better`."""
        assert self.comparison.verdict is not None
        return self.comparison.verdict

    def __str__(self) -> str:
        return words.verdict_sentence(self.comparison, self.metric)


def paired_comparison(
    baseline_scores: ArrayLike,
    treatment_scores: ArrayLike,
    *,
    metric: str | Metric = "balanced_accuracy",
    smallest_effect: float | None = None,
    confidence: float = 0.95,
    num_comparisons: int = 1,
    splits: tuple[int, int] | None = None,
    baseline: str = "baseline",
    treatment: str = "treatment",
) -> PairedComparison:
    """Compares two arms by their scores on the same seeds, wherever those come from.

    >>> uniform = [0.912, 0.905, 0.921, 0.899, 0.915, 0.908, 0.917, 0.903]
    >>> balanced = [0.931, 0.926, 0.935, 0.921, 0.930, 0.929, 0.934, 0.918]
    >>> result = paired_comparison(uniform, balanced, baseline="uniform", treatment="balanced")
    >>> result.verdict.key
    'better'
    >>> print(result)  # doctest: +ELLIPSIS
    balanced is better than uniform on this test set: +1.80 percentage points in balanced ...

    Args:
        baseline_scores: `[num_seeds]`, fractions if the metric is one.
        treatment_scores: `[num_seeds]`, in the same order of seeds.
        metric: a name in `cwjax.analysis.metrics.METRICS`, or a `Metric` of your own.
        smallest_effect: the smallest difference that would matter, in the unit of the scores;
            without it nothing is said about equivalence or size.
        confidence: 1 - α, with α the error rate of the whole family.
        num_comparisons: size of the family that this comparison belongs to; without the scores of
            the others p and interval are adjusted by Bonferroni's method.
        splits: where every seed has a test split of its own, the number of its test and of its
            training examples; the corrected resampled t test then judges.
        baseline: the arm's name in the sentence.
        treatment: the arm's name in the sentence.

    Raises:
        ConfigError: an unknown metric, an impossible effect, confidence or number of comparisons,
            or scores in percent where fractions are asked for.
        ValueError: no scores, unequal lengths, NaN or infinity; splits without examples.
    """
    scores = [
        finite_array(baseline_scores, "baseline_scores"),
        finite_array(treatment_scores, "treatment_scores"),
    ]
    if scores[0].size != scores[1].size:
        raise ValueError(f"{scores[0].size} baseline scores, {scores[1].size} treatment scores")
    rules = Rules(
        metric=find_metric(metric) if isinstance(metric, str) else metric,
        smallest_effect=smallest_effect,
        confidence=confidence,
        num_comparisons=num_comparisons,
    )
    for name, values in zip(("baseline_scores", "treatment_scores"), scores, strict=True):
        outside = values[(values < 0) | (values > 1)]
        if rules.metric.is_fraction and outside.size:
            raise ConfigError(
                f"{name} has {outside[0]:g}: {rules.metric.title} is a fraction from 0 to 1, not "
                "percent"
            )
    arms = [
        ArmScores(name, dict(enumerate(values.tolist())))
        for name, values in zip((baseline, treatment), scores, strict=True)
    ]
    pair = Pair(Pairing("", baseline, treatment), *arms)
    seeds = Seeds(splits=None if splits is None else {"": splits})
    return PairedComparison(compare_family([pair], rules, seeds).comparisons[0], rules.metric)
