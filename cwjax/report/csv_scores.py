"""Scores of runs that were trained elsewhere, from a CSV file to the same comparison."""

from __future__ import annotations

import csv
import math
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cwjax.analysis.family import Pair, compare_family
from cwjax.analysis.intervals import error_rate
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.pairing import ArmScores, family_size, pairings
from cwjax.analysis.results import ArmSummary, CellFacts, DesignFacts, ScoreSummary, StudyComparison
from cwjax.analysis.rules import Rules
from cwjax.errors import ConfigError
from cwjax.report import words

MAX_BYTES = 100_000_000
"""Size of a file; a hundred arms of a thousand seeds are a few megabytes."""

MAX_SEEDS = 1_000
"""Seeds of an arm: with more, the sign flips take minutes and gigabytes and say nothing new."""

MAX_ARMS = 100
"""Arms of a file: a table of more is no report."""

_LARGEST = 1e100  # of a score: squares of differences stay finite
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_OTHER_NAMES = {
    "arm": ("method", "scheme", "model", "treatment", "algorithm", "condition", "group", "name"),
    "seed": ("run", "trial", "fold", "repeat", "repetition", "replicate"),
}


@dataclass(frozen=True)
class CsvScores:
    """The scores of a file."""

    name: str
    """The file's name, without its ending."""
    metric: Metric
    scores: dict[str, dict[int, float]]
    """Arm -> seed -> score."""


def csv_metric(name: str, *, lower_is_better: bool = False) -> Metric:
    """The metric of a column: one of `METRICS`, or a metric of one's own, printed as it is.

    Args:
        name: of the column.
        lower_is_better: of a metric of one's own.

    Raises:
        ConfigError: `lower_is_better` contradicts what is known of the metric.
    """
    if name not in METRICS:
        return Metric(
            name, name, higher_is_better=not lower_is_better, worst=None, is_fraction=False
        )
    if lower_is_better and METRICS[name].higher_is_better:
        raise ConfigError(f"--lower-is-better: a higher {METRICS[name].title} is better; rename it")
    return METRICS[name]


def read_scores(
    path: Path, metric: str | None = None, *, lower_is_better: bool = False
) -> CsvScores:
    """Reads the columns `arm`, `seed` and that of the metric; other columns are left alone.

    Args:
        path: of a CSV file with one row per run.
        metric: the column [default: the only one besides arm and seed].
        lower_is_better: of a metric of one's own.

    Raises:
        ConfigError: it cannot be read, a column is missing, or a row is torn, repeated or holds
            something else than a seed and a finite score; with its line.
    """
    rows = _rows(path)
    _, columns = next(rows)
    _check_columns(path, columns)
    found = csv_metric(_metric_name(path, columns, metric), lower_is_better=lower_is_better)
    places = [columns.index(name) for name in ("arm", "seed", found.name)]
    scores: dict[str, dict[int, float]] = {}
    for line, row in rows:
        where = f"{path.name} line {line}"
        if len(row) != len(columns):
            raise ConfigError(f"{where} has more or fewer fields than line 1")
        arm, seed_text, score_text = (row[place].strip() for place in places)
        seed, score = _seed(seed_text, where), _score(score_text, found, where)
        if not arm:
            raise ConfigError(f"{where}: arm is empty: give a name")
        of_arm = scores.setdefault(arm, {})
        if seed in of_arm:
            raise ConfigError(f"{where}: arm {arm!a} seed {seed} is there already: give it once")
        of_arm[seed] = score
        if len(of_arm) > MAX_SEEDS:
            raise ConfigError(
                f"{where}: arm {arm!a} has more than {MAX_SEEDS:,} seeds: keep the first ones, "
                "more would take minutes and say nothing new"
            )
        if len(scores) > MAX_ARMS:
            raise ConfigError(f"{where}: there are more than {MAX_ARMS} arms: keep fewer")
    if not scores:
        raise ConfigError(f"{path.name} has no rows: give one row per run")
    return CsvScores(path.stem, found, scores)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its last line, the headings first."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"--csv {path} is no regular file: give a CSV file")
        if status.st_size > MAX_BYTES:
            raise ConfigError(
                f"--csv {path} has {status.st_size:,} bytes, more than {MAX_BYTES:,}: keep the "
                "columns arm, seed and the metric's"
            )
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            yield 1, [name.strip() for name in next(reader, [])]
            for row in reader:
                if row:  # an empty line
                    yield reader.line_num, row
    except OSError as error:
        raise ConfigError(f"--csv {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--csv {path.name} is no CSV file in UTF-8: {error}") from error


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Checks that there are arms and seeds; says what is there instead."""
    repeated = [name for name in columns if columns.count(name) > 1]
    if repeated:
        raise ConfigError(f"{path.name} line 1 has two columns {repeated[0]!a}: rename one")
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and separator in columns[0]:
            raise ConfigError(f"{path.name} is separated by {name}: separate it by commas")
    for column, others in _OTHER_NAMES.items():
        if column in columns:
            continue
        alike = [name for name in columns if name.lower() in (column, *others)]
        if alike:
            raise ConfigError(
                f"{path.name} line 1 has no column {column}: rename {alike[0]!a} to {column}"
            )
        wide = ""
        if column == "arm" and "seed" in columns and len(columns) > 2:
            wide = "; if each column is an arm, give one row per arm and seed instead"
        there = words.listed([f"{name!a}"[1:-1] for name in columns]) if columns else "nothing"
        raise ConfigError(f"{path.name} line 1 has no column {column}: it has {there}{wide}")


def _metric_name(path: Path, columns: Sequence[str], metric: str | None) -> str:
    others = [name for name in columns if name not in ("arm", "seed")]
    there = words.listed([f"{name!a}"[1:-1] for name in columns])
    if metric is None:
        if len(others) != 1:
            raise ConfigError(
                f"--metric is needed to say which column of {path.name} is compared: it has {there}"
            )
        return others[0]
    if metric not in others:
        raise ConfigError(f"{path.name} line 1 has no column {metric}: it has {there}")
    return metric


def _seed(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ConfigError(
            f"{where}: seed is {_short(text)}: give an integer of at least 0, with at most 18 "
            "digits"
        )
    return int(text)


def _score(text: str, metric: Metric, where: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) and text.isascii() else math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {metric.name} is {_short(text)}: give a finite number")
    if abs(value) > _LARGEST:
        raise ConfigError(f"{where}: {metric.name} is {_short(text)}: give at most {_LARGEST:g}")
    if metric.is_fraction and not 0 <= value <= 1:
        raise ConfigError(
            f"{where}: {metric.name} is {_short(text)[1:-1]}: give a fraction from 0 to 1, not "
            "percent"
        )
    return value


def _short(text: str) -> str:
    return ascii(text if len(text) <= 30 else text[:27] + "...")


def compare_scores(given: CsvScores, baseline: str, rules: Rules) -> StudyComparison:
    """The comparison of one metric; without logits there are no intervals on new test sets.

    Args:
        given: scores of every arm, the baseline among them.
        baseline: the arm that the others are compared with.
        rules: what was fixed beforehand, on the same metric.

    Raises:
        ConfigError: no such baseline, or an arm that has no seed in common with it.
    """
    if baseline not in given.scores:
        raise ConfigError(f"--baseline is {baseline!r}: choose one of {', '.join(given.scores)}")
    arms = {
        arm: ArmScores(arm, by_seed)
        for arm, by_seed in ({baseline: given.scores[baseline]} | given.scores).items()
    }
    family = pairings(list(arms), baseline, {})
    pairs = [Pair(pairing, arms[baseline], arms[pairing.treatment]) for pairing in family]
    judged = compare_family(pairs, rules)
    return StudyComparison(
        metric=rules.metric,
        confidence=rules.confidence,
        smallest_effect=rules.smallest_effect,
        baseline=baseline,
        arms=tuple(arms),
        seeds=tuple(sorted(set().union(*given.scores.values()))),
        family_size=family_size(family),
        design=DesignFacts(
            alpha=error_rate(rules.confidence), critical_value=judged.critical_value
        ),
        num_ok_runs=sum(map(len, given.scores.values())),
        bad_runs=(),
        cells=(CellFacts("", given.name, "none", 1.0),),
        summaries=tuple(_summary(arm, rules.metric) for arm in arms.values()),
        comparisons=judged.comparisons,
        secondary=(),
    )


def _summary(arm: ArmScores, metric: Metric) -> ArmSummary:
    score, number = ScoreSummary.of(list(arm.scores.values())), len(arm.scores)
    return ArmSummary("", arm.name, number, number, {metric.name: score})
