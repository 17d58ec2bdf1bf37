"""How a study is judged, and which runs it needs before it can be.

Reads scores only, so the driver can ask after every look, without JAX and logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cwjax.analysis.family import JudgedStudy, Pair, Seeds, compare_family
from cwjax.analysis.looks import Judging, LookPlan
from cwjax.analysis.pairing import ArmScores, Pairing, pairings
from cwjax.analysis.results import LookFacts
from cwjax.analysis.rules import rules_for
from cwjax.store.schema import RunHeader, StoredJudging, StudyFile
from cwjax.training.runs import RunKey

Runs = Mapping[RunKey, RunHeader]


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        expected: every run that was needed so far, or is needed next, trained or not.
        num_looks: planned looks that its runs allow to take; 0 without a plan.
        judged: what the last of them found; None before the first, and without a plan.
    """

    expected: tuple[RunKey, ...]
    num_looks: int
    judged: JudgedStudy | None


def study_pairings(study: StudyFile) -> tuple[Pairing, ...]:
    """Who is compared with whom, in every cell: the study's one family and its controls."""
    return tuple(
        pairing
        for name, cell in study.cells.items()
        for pairing in pairings(study.arm_names, study.baseline, cell.equal_arms, name)
    )


def progress(study: StudyFile, runs: Runs) -> Progress:
    """Which runs are needed: all, or of a plan of looks those of the arms that are undecided.

    A function of the study and its finished runs alone: however often a study was interrupted, the
    same looks are taken. The baseline and the A/A control train as long as any arm of their cell.

    Args:
        study: the content of `study.json`.
        runs: the headers of its finished runs.
    """
    if not study.looks:
        return Progress(tuple(study.run_keys), 0, None)
    everyone = study_pairings(study)
    active = {(p.cell, arm) for p in everyone for arm in (p.baseline, p.treatment)}
    numbers = dict.fromkeys(active, 0)
    judged = None
    for taken, number in enumerate(study.looks):
        numbers |= dict.fromkeys(active, number)
        expected = _first_seeds(study, numbers)
        if not all(key in runs or key in study.failed for key in expected):
            return Progress(expected, taken, judged)
        judged = judge(study, runs, study.analysis.metric, num_looks=taken + 1)
        going = [entry.pairing for entry in judged.comparisons if entry.needs_seeds]
        active = {(p.cell, arm) for p in going for arm in (p.baseline, p.treatment)}
        cells = {pairing.cell for pairing in going}
        active |= {(p.cell, p.treatment) for p in everyone if p.control and p.cell in cells}
        if not active:
            break
    return Progress(_first_seeds(study, numbers), taken + 1, judged)


def _first_seeds(study: StudyFile, numbers: Mapping[tuple[str, str], int]) -> tuple[RunKey, ...]:
    """The runs of the first seeds: so many of each cell and arm, with what they are chosen from."""
    place = {seed: i for i, seed in enumerate(study.seeds)}
    candidates, wanted = study.candidates, dict(numbers)
    for (cell, arm), number in numbers.items():
        for name in candidates.get(arm, ()):
            wanted[cell, name] = max(number, wanted.get((cell, name), 0))
    return tuple(
        key for key in study.run_keys if place[key.seed] < wanted.get((key.cell, key.arm), 0)
    )


def judge(study: StudyFile, runs: Runs, metric: str, *, num_looks: int = 0) -> JudgedStudy:
    """Compares every arm of every cell with the baseline on one metric.

    Args:
        study: the content of `study.json`.
        runs: the headers of its finished runs; a seed without one counts as failed.
        metric: a name in `METRICS`.
        num_looks: planned looks to take.
    """
    alpha = study.judgings[-1].alpha if study.judgings else None
    seeds = Seeds(order=study.seeds, alpha=alpha, splits=split_sizes(study))
    if study.looks:
        plan = LookPlan(study.looks, study.analysis.confidence, study.analysis.smallest_effect)
        seeds = Seeds(plan, study.seeds, num_looks)
    pairs = [_pair(study, runs, pairing, metric) for pairing in study_pairings(study)]
    return compare_family(pairs, rules_for(study.analysis, metric), seeds)


def split_sizes(study: StudyFile) -> dict[str, tuple[int, int]] | None:
    """The largest test and the smallest training split of each cell; None where none is drawn.

    With groups their sizes differ a little, and these err on the safe side.
    """
    if any(cell.data.test_split == "fixed" for cell in study.cells.values()):
        return None
    return {
        name: (
            max(num_test for num_test, _ in cell.split_sizes.values()),
            min(num_train for _, num_train in cell.split_sizes.values()),
        )
        for name, cell in study.cells.items()
    }


def last_judging(study: StudyFile) -> Judging | None:
    """The latest of those that `study.json` holds."""
    if not study.judgings:
        return None
    last = study.judgings[-1]
    return Judging(last.look, last.alpha, frozenset(last.seeds))


def store_judging(judging: Judging) -> StoredJudging:
    """A judging as `study.json` holds it."""
    return StoredJudging(judging.look, judging.alpha, tuple(sorted(judging.seeds)))


def look_facts(primary: JudgedStudy) -> tuple[LookFacts, ...]:
    """What was read at each planned look, by the names of the arms."""
    if primary.looks is None:
        return ()
    names = [(cell, arm) for cell, _, arm in primary.keys]
    return tuple(
        LookFacts(
            num_seeds=look.num_seeds,
            boundary=look.boundary,
            decided=tuple(names[place] for place in look.decided),
            t=tuple((*name, t) for name, t in zip(names, look.t, strict=True)),
        )
        for look in primary.looks.looks
    )


def _pair(study: StudyFile, runs: Runs, pairing: Pairing, metric: str) -> Pair:
    """The scores of both arms; at planned looks on the seeds that both were to have."""
    seeds = study.seeds
    if study.looks:
        seeds = tuple(
            seed
            for seed in seeds
            if all(
                (key := RunKey(pairing.cell, arm, seed)) in runs or key in study.failed
                for arm in (pairing.baseline, pairing.treatment)
            )
        )
    baseline, treatment = (
        _arm_scores(runs, pairing.cell, arm, seeds, metric)
        for arm in (pairing.baseline, pairing.treatment)
    )
    return Pair(pairing, baseline, treatment)


def _arm_scores(runs: Runs, cell: str, arm: str, seeds: tuple[int, ...], metric: str) -> ArmScores:
    good, bad = {}, {}
    for seed in seeds:
        run = runs.get(RunKey(cell, arm, seed))
        if run is None or run.status != "ok":
            bad[seed] = "failed" if run is None else run.status
        else:
            score = run.scores[metric]
            good[seed] = np.nan if score is None else score
    return ArmScores(arm, good, bad)
