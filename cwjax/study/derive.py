"""From the run files to everything else in the directory: tables, `comparison.json`, the report.

Reads the directory only, so it can be derived again at any time, without JAX and the data sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from cwjax.analysis.family import Comparison, JudgedStudy, Seeds, conclude
from cwjax.analysis.intervals import Interval, error_rate
from cwjax.analysis.learning import LateGain, late_gain
from cwjax.analysis.looks import judge_again
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.new_test_sets import Contributions, contributions, interval_from
from cwjax.analysis.pairing import family_size
from cwjax.analysis.results import (
    ArmSummary,
    BadRunFact,
    CellFacts,
    DeploymentFacts,
    DesignFacts,
    ScoreSummary,
    StudyComparison,
    TrendFact,
    TuningFacts,
    join,
)
from cwjax.analysis.rules import rules_for
from cwjax.analysis.stats import trend
from cwjax.arms.arm import NULL_CONTROL
from cwjax.config import available_cores
from cwjax.errors import ConfigError
from cwjax.processes import new_pool, submit
from cwjax.report.pages import Figures, write_cell_report, write_study_report
from cwjax.store.contents import CellContents, read_cell, read_headers, refuse_foreign_runs
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import RunRecord, StudyFile, to_json
from cwjax.study.deploy import DEPLOYMENT
from cwjax.study.judge import (
    Progress,
    Runs,
    judge,
    last_judging,
    look_facts,
    progress,
    split_sizes,
    store_judging,
    study_pairings,
)
from cwjax.study.tables import class_scores_table, history_table, scores_table, to_parquet
from cwjax.training.runs import RunKey

WORTH_PROCESSES = 300
"""Runs of a study of several cells from which on each core reports a cell.

A run takes about 12 ms to read and draw, a process two seconds to start.
"""


def derive(
    directory: StudyDirectory,
    figures: Figures = "svg",
    deployment: Sequence[DeploymentFacts] = (),
) -> StudyComparison:
    """Writes every derived file of a directory, and in `study.json` that it has been judged.

    The scores of all cells are compared first. Then each cell is read with its logits, one after
    the other or in larger studies one per core, so that memory does not grow with their number.

    Args:
        directory: held by this process; its runs are all stored or have failed.
        figures: format of the files in `figures/`.
        deployment: what was asked about the models in use (`deploy.deployed`), if anything.

    Raises:
        ConfigError: a run is missing, or a file is missing or damaged.
    """
    study = directory.known_study()
    runs, state = _complete(directory, study)
    known, study = study, with_judging(study)
    if study != known:
        directory.write_study(study)
    cells, answers = _scored_cells(study, runs, state), {facts.cell: facts for facts in deployment}
    derive_cell = partial(_derive_cell, directory, study, figures, answers, METRICS)
    derived = _each(derive_cell, cells, len(runs))
    classes = [cell.class_scores for cell in derived if cell.class_scores is not None]
    histories = [cell.history for cell in derived if cell.history is not None]
    comparison = _joined(study, [cell.part for cell in derived])
    scores = scores_table(study, state.expected, runs)
    directory.write_bytes("scores.parquet", to_parquet(scores))
    for name, tables in (("class_scores", classes), ("history", histories)):
        if tables:
            table = pd.concat(tables, ignore_index=True)
            directory.write_bytes(f"{name}.parquet", to_parquet(table))
    directory.write_bytes("comparison.json", to_json(comparison))
    if deployment:
        directory.write_bytes(DEPLOYMENT, to_json(deployment))
    else:
        (directory.path / DEPLOYMENT).unlink(missing_ok=True)  # of another report
    if len(study.cells) > 1:
        write_study_report(directory, study, comparison, figures)
    return comparison


def compare(directory: StudyDirectory) -> StudyComparison:
    """What a directory's study found; only reads.

    Raises:
        ConfigError: see `derive`.
    """
    study = directory.known_study()
    runs, state = _complete(directory, study)
    study = with_judging(study)
    cells = _scored_cells(study, runs, state)
    parts = [_part(read_cell(directory, study, cell.name, cell.runs), cell) for cell in cells]
    return _joined(study, parts)


def with_judging(study: StudyFile) -> StudyFile:
    """The study with this judging among those without a plan, if it could establish something.

    A study that is extended after it was judged is judged more strictly the next time.
    """
    if study.looks:
        return study
    before = last_judging(study)
    now = judge_again(before, study.seeds, study.analysis.confidence)
    if now == before or now.look == 0:
        return study
    return replace(study, judgings=(*study.judgings, store_judging(now)))


def _complete(directory: StudyDirectory, study: StudyFile) -> tuple[Runs, Progress]:
    """The finished runs of a study that needs no more.

    Raises:
        ConfigError: a run is not finished; the first is named.
    """
    refuse_foreign_runs(directory, study)
    runs = read_headers(directory, study)
    state = progress(study, runs)
    unfinished = [key for key in state.expected if key not in runs and key not in study.failed]
    if unfinished:
        raise ConfigError(
            f"{len(unfinished)} of {len(state.expected)} runs are not finished, the first is "
            f"{unfinished[0]}: give the command that trained them again, it continues where it "
            "stopped"
        )
    return runs, state


def _joined(study: StudyFile, parts: Sequence[StudyComparison]) -> StudyComparison:
    compared = [entry for part in parts for entry in part.comparisons]
    return join(parts, _trends(study, compared))


@dataclass(frozen=True)
class _ScoredCell:
    """What the scores of a study say of one cell; the rest of its part takes the cell's logits.

    Attributes:
        name: of the cell.
        runs: of the study in the cell.
        compared: as they were judged.
        secondary: on the other metrics.
        design: of the study.
        family_size: of the study.
        bad_runs: of the cell.
        tuning: arm -> the settings that it was chosen among, if it was tuned.
    """

    name: str
    runs: frozenset[RunKey]
    compared: tuple[Comparison, ...]
    secondary: tuple[Comparison, ...]
    design: DesignFacts
    family_size: int
    bad_runs: tuple[BadRunFact, ...]
    tuning: dict[str, TuningFacts | None]


def _scored_cells(study: StudyFile, runs: Runs, state: Progress) -> list[_ScoredCell]:
    """Every cell of a study, as far as scores alone tell."""
    primary = state.judged or judge(study, runs, study.analysis.metric)
    secondary = [
        entry
        for metric in METRICS
        if metric != study.analysis.metric
        for entry in judge(study, runs, metric, num_looks=state.num_looks).comparisons
    ]
    design, size = _design_facts(study, state, primary), family_size(study_pairings(study))
    expected: dict[str, set[RunKey]] = {cell: set() for cell in study.cells}
    for key in state.expected:
        expected[key.cell].add(key)
    return [
        _ScoredCell(
            name=cell,
            runs=frozenset(expected[cell]),
            compared=tuple(entry for entry in primary.comparisons if entry.pairing.cell == cell),
            secondary=tuple(entry for entry in secondary if entry.pairing.cell == cell),
            design=design,
            family_size=size,
            bad_runs=_bad_runs(study, state, runs, cell),
            tuning={
                arm: _tuning(study, expected[cell], runs, cell, arm) for arm in study.arm_names
            },
        )
        for cell in study.cells
    ]


def _part(contents: CellContents, cell: _ScoredCell) -> StudyComparison:
    """A cell's part of the study's comparisons."""
    study = contents.study
    rules = rules_for(study.analysis, study.analysis.metric)
    contributed = _Contributions(contents)
    num_runs = Counter(key.arm for key in cell.runs)
    return StudyComparison(
        metric=METRICS[study.analysis.metric],
        confidence=study.analysis.confidence,
        smallest_effect=study.analysis.smallest_effect,
        baseline=study.baseline,
        arms=study.arm_names,
        seeds=study.seeds,
        family_size=cell.family_size,
        design=cell.design,
        num_ok_runs=sum(record.status == "ok" for record in contents.records),
        bad_runs=cell.bad_runs,
        cells=(_cell_facts(contents),),
        summaries=tuple(
            _summary(contents, arm, num_runs[arm], cell.tuning[arm]) for arm in contents.arms
        ),
        comparisons=tuple(
            conclude(
                entry,
                rules,
                new_test_sets=contributed.interval(entry),
                splits_are_new=cell.design.splits_are_new,
                deterministic=_is_deterministic(contents, entry),
            )
            for entry in cell.compared
        ),
        secondary=cell.secondary,
    )


@dataclass(frozen=True)
class _DerivedCell:
    """What the whole study's files need of a cell whose own are written."""

    part: StudyComparison
    class_scores: pd.DataFrame | None
    history: pd.DataFrame | None


def _derive_cell(
    directory: StudyDirectory,
    study: StudyFile,
    figures: Figures,
    answers: Mapping[str, DeploymentFacts],
    metrics: Mapping[str, Metric],
    cell: _ScoredCell,
) -> _DerivedCell:
    """Reads a cell and writes its report.

    Args:
        directory: of the study.
        study: what it is.
        figures: format of the files in `figures/`.
        answers: cell -> what was asked about its models in use, if anything.
        metrics: of the process that asks, which may have registered more.
        cell: what its scores say.
    """
    METRICS.update(metrics)
    contents = read_cell(directory, study, cell.name, cell.runs)
    part = _part(contents, cell)
    if not contents.records:
        return _DerivedCell(part, None, None)
    write_cell_report(directory, contents, part, figures, answers.get(cell.name))
    has_history = any(record.history for record in contents.records)
    return _DerivedCell(
        part,
        class_scores_table(contents.records, contents.class_names),
        history_table(contents.records) if has_history else None,
    )


def _each(
    derive_cell: Callable[[_ScoredCell], _DerivedCell], cells: Sequence[_ScoredCell], num_runs: int
) -> list[_DerivedCell]:
    """Calls a function with each of the cells; in processes if that is quicker."""
    num_processes = min(available_cores(), len(cells))
    if num_processes == 1 or num_runs < WORTH_PROCESSES:
        return [derive_cell(cell) for cell in cells]
    pool = new_pool(num_processes)
    try:
        waiting = [submit(pool, derive_cell, cell) for cell in cells]
        return [future.result() for future in waiting]
    except BrokenProcessPool as error:
        raise ConfigError(
            "a process that drew the report was killed, often for want of memory: `cwjax report` "
            "on fewer cores (`taskset -c 0 cwjax report DIR`) needs less"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _design_facts(study: StudyFile, state: Progress, primary: JudgedStudy) -> DesignFacts:
    last, arms = study.judgings[-1] if study.judgings else None, study.arm_names
    return DesignFacts(
        planned_looks=study.looks,
        looks=look_facts(primary),
        times_judged=0 if last is None else last.look,
        alpha=error_rate(study.analysis.confidence) if last is None else last.alpha,
        critical_value=primary.critical_value,
        splits_are_new=split_sizes(study) is not None,
        num_runs=len(state.expected),
        num_runs_without_looks=len(study.run_keys),
        num_candidates=sum(key.arm not in arms for key in state.expected),
    )


class _Contributions:
    """What the test examples of a cell contribute to the primary metric; once for each run."""

    def __init__(self, contents: CellContents) -> None:
        self._contents = contents
        self._known: dict[RunKey, Contributions] = {}

    def interval(self, entry: Comparison) -> Interval | None:
        """The interval of a comparison over new seeds and new test examples."""
        analysis, judged = self._contents.study.analysis, entry.judged
        runs = [
            [self._contents.runs[arm].get(seed) for seed in entry.seeds]
            for arm in (entry.pairing.baseline, entry.pairing.treatment)
        ]
        if self._contents.cell.data.test_split == "per-seed":
            return None  # that test examples differ is in the variance over seeds
        if not METRICS[entry.metric].new_test_sets or judged is None or not entry.seeds:
            return None
        if any(run is None or run.status != "ok" for arm in runs for run in arm):
            return None
        with ThreadPoolExecutor(available_cores()) as pool:  # NumPy sorts without the lock
            baseline, treatment = (
                list(pool.map(self._of, [run for run in arm if run is not None])) for arm in runs
            )
        return interval_from(baseline, treatment, analysis.confidence, judged.critical_value)

    def _of(self, run: RunRecord) -> Contributions:
        if run.key not in self._known:
            metric = self._contents.study.analysis.metric
            self._known[run.key] = contributions(
                metric,
                run.test_logits,
                self._contents.examples.test_labels,
                run.class_counts,
                run.scores[metric],
            )
        return self._known[run.key]


def _is_deterministic(contents: CellContents, entry: Comparison) -> bool:
    """Whether both arms predict the same on every seed, so that there is only one run to see."""
    if len(entry.seeds) < 2:
        return False
    for arm in (entry.pairing.baseline, entry.pairing.treatment):
        runs = [contents.runs[arm].get(seed) for seed in entry.seeds]
        first = runs[0]
        if first is None or not all(
            run is not None and np.array_equal(run.test_logits, first.test_logits) for run in runs
        ):
            return False
    return True


def _bad_runs(study: StudyFile, state: Progress, runs: Runs, cell: str) -> tuple[BadRunFact, ...]:
    arms = study.arm_names
    statuses = {
        key: _status(runs, key) for key in state.expected if key.cell == cell and key.arm in arms
    }
    return tuple(
        BadRunFact(cell, key.arm, key.seed, status)
        for key, status in statuses.items()
        if status != "ok"
    )


def _status(runs: Runs, key: RunKey) -> str:
    return "failed" if key not in runs else runs[key].status


def _tuning(
    study: StudyFile, expected: Collection[RunKey], runs: Runs, cell: str, arm: str
) -> TuningFacts | None:
    if arm not in (candidates := study.candidates):
        return None
    name = study.baseline if arm == NULL_CONTROL else arm
    keys = [
        RunKey(cell, candidate, seed)
        for seed in study.seeds
        if RunKey(cell, arm, seed) in expected
        for candidate in candidates[arm]
    ]
    return TuningFacts(
        tried=next(stored.tried for stored in study.arms if stored.name == name),
        num_candidates=len(candidates[arm]),
        num_bad=sum(_status(runs, key) != "ok" for key in keys),
    )


def _cell_facts(contents: CellContents) -> CellFacts:
    study, data = contents.study, contents.cell.data
    return CellFacts(
        cell=contents.name,
        dataset=data.dataset,
        imbalance=data.imbalance,
        imbalance_factor=data.factor,
        failures=tuple(
            f"{failure.run}: {failure.reason}"
            for failure in study.failures
            if failure.run.cell == contents.name
        ),
        never_predicted=_never_predicted(contents),
        num_classes=len(contents.class_names),
        still_learning=_still_learning(contents),
    )


def _still_learning(contents: CellContents) -> dict[str, LateGain]:
    """Arm -> what its good runs gained at their end, on the seeds' validation splits."""
    found = {}
    for arm in contents.arms:
        trained = [record for record in contents.ok_runs(arm) if record.history]
        curves = [record.history["val_balanced_accuracy"] for record in trained]
        if len({len(curve) for curve in curves}) == 1:
            gain = late_gain(np.stack(curves), trained[0].stage_steps)
            if gain is not None:
                found[arm] = gain
    return found


def _never_predicted(contents: CellContents) -> dict[str, tuple[str, ...]]:
    """Arm -> classes that none of its good runs ever predicts on the test split."""
    found = {}
    for arm in contents.arms:
        runs = contents.ok_runs(arm)
        if runs:
            predicted = sum(record.confusion_matrix.sum(axis=0) for record in runs)
            missing = np.flatnonzero(predicted == 0)
            if len(missing):
                found[arm] = tuple(contents.class_names[c] for c in missing)
    return found


def _summary(
    contents: CellContents, arm: str, num_runs: int, tuning: TuningFacts | None
) -> ArmSummary:
    """Mean and standard deviation over the runs that ended well; None where one is undefined."""
    ok = contents.ok_runs(arm)
    settings = dict.fromkeys(name for record in ok for name in record.chosen)
    return ArmSummary(
        cell=contents.name,
        arm=arm,
        num_runs=num_runs,
        num_ok=len(ok),
        scores={
            metric: ScoreSummary.of([record.scores[metric] for record in ok]) for metric in METRICS
        },
        chosen={name: tuple(record.chosen[name] for record in ok) for name in settings},
        tuning=tuning,
    )


def _trends(study: StudyFile, compared: Sequence[Comparison]) -> list[TrendFact]:
    """For each data set, profile and arm: how the difference changes with the factor.

    Only seeds that every factor has are used; a line needs two factors.
    """
    lines: dict[tuple[str, str, str], list[tuple[float, Comparison]]] = {}
    for comparison in compared:
        data = study.cells[comparison.pairing.cell].data
        if comparison.estimates is not None and data.imbalance != "none":
            line = (data.dataset, data.imbalance, comparison.pairing.treatment)
            lines.setdefault(line, []).append((data.imbalance_factor, comparison))
    trends, seeds = [], Seeds(splits=split_sizes(study))
    for (dataset, imbalance, treatment), points in lines.items():
        common = sorted(set.intersection(*(set(entry.seeds) for _, entry in points)))
        if len(points) < 2 or not common:
            continue
        by_seed = [dict(zip(entry.seeds, entry.differences, strict=True)) for _, entry in points]
        table = [[differences[seed] for differences in by_seed] for seed in common]
        factors = tuple(factor for factor, _ in points)
        inflation = max(seeds.inflation(entry.pairing.cell, len(common)) for _, entry in points)
        estimate = trend(table, factors, study.analysis.confidence, inflation)
        trends.append(
            TrendFact(
                dataset=dataset,
                imbalance=imbalance,
                treatment=treatment,
                factors=factors,
                seeds=tuple(common),
                slope=estimate.slope,
                interval=estimate.interval,
                seed_slopes=estimate.seed_slopes,
            )
        )
    return trends
