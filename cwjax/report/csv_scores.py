"""Scores of runs that were trained elsewhere, from a CSV file to the same comparison."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.analysis.comparison import compare_arms
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.pairing import ArmScores
from cwjax.analysis.rules import Rules
from cwjax.errors import ConfigError

Scores = dict[str, dict[int, float]]  # arm -> seed -> score


def csv_metric(name: str, *, lower_is_better: bool = False) -> Metric:
    """The metric of a column: one of `METRICS`, or an own one that is printed as it is.

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


def read_scores(path: Path, metric: Metric) -> Scores:
    """Reads the columns `arm`, `seed` and that of the metric; other columns are left alone.

    Raises:
        ConfigError: it cannot be read, a column is missing, or a row is torn, repeated or holds
            something else than a seed and a finite score; with its line.
    """
    scores: Scores = {}
    for line, row in _rows(path, ("arm", "seed", metric.name)):
        where = f"{path.name} line {line}"
        arm, seed = row["arm"], _seed(row["seed"], where)
        if not arm:
            raise ConfigError(f"{where}: arm is empty: give a name")
        if seed in scores.setdefault(arm, {}):
            raise ConfigError(f"{where}: arm {arm!r} seed {seed} is there already: give it once")
        scores[arm][seed] = _score(row[metric.name], metric, where)
    if not scores:
        raise ConfigError(f"{path.name} has no rows: give one row a run")
    return scores


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with the number of its last line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise ConfigError(
                        f"{path.name} line 1 has no column {column}: it has "
                        f"{', '.join(reader.fieldnames or ()) or 'nothing'}"
                    )
            for row in reader:
                if None in row or None in row.values():
                    raise ConfigError(
                        f"{path.name} line {reader.line_num} has more or fewer fields than line 1"
                    )
                yield reader.line_num, {name: value.strip() for name, value in row.items()}
    except OSError as error:
        raise ConfigError(f"--csv {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--csv {path.name} is no CSV file in UTF-8: {error}") from error


def _seed(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{where}: seed is {text!r}: give an integer of at least 0")
    return int(text)


def _score(text: str, metric: Metric, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {metric.name} is {text!r}: give a finite number")
    if metric.is_fraction and not 0 <= value <= 1:
        raise ConfigError(
            f"{where}: {metric.name} is {text}: give a fraction from 0 to 1, not percent"
        )
    return value


def compare_scores(scores: Scores, baseline: str, rules: Rules) -> dict[str, Any]:
    """As the content of `comparison.json`, on one metric and without intervals on new test sets.

    Args:
        scores: of every arm, the baseline among them.
        baseline: the arm that the others are compared with.
        rules: the metric and what was fixed beforehand.

    Raises:
        ConfigError: no such baseline, or an arm that has no seed in common with it.
    """
    if baseline not in scores:
        raise ConfigError(f"--baseline is {baseline!r}: choose one of {', '.join(scores)}")
    ordered = {baseline: scores[baseline]} | scores
    arms = [ArmScores(arm, by_seed) for arm, by_seed in ordered.items()]
    return {
        "metric": rules.metric.name,
        "confidence": rules.confidence,
        "smallest_effect": rules.smallest_effect,
        "baseline": baseline,
        "arms": [
            {
                "arm": arm,
                "num_runs": len(by_seed),
                "num_ok": len(by_seed),
                "scores": {rules.metric.name: _mean_and_std(list(by_seed.values()))},
            }
            for arm, by_seed in ordered.items()
        ],
        "comparisons": [
            dataclasses.asdict(comparison) for comparison in compare_arms(arms, baseline, rules)
        ],
        "secondary": [],
    }


def _mean_and_std(values: list[float]) -> dict[str, float | None]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std}
