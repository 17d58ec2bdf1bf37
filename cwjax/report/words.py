"""Every number format and every sentence of terminal and reports, made from typed facts."""

from __future__ import annotations

import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath

from cwjax.analysis import power
from cwjax.analysis.family import Comparison
from cwjax.analysis.intervals import Interval
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.new_test_sets import NewTestSetInterval
from cwjax.analysis.pairing import BadRun
from cwjax.analysis.results import ScoreSummary, StudyComparison
from cwjax.analysis.verdict import Key

UNDEFINED = "–"

VERDICTS: dict[Key, str] = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equivalent",
    "suggestive": "suggestive",
    "no_detectable_difference": "no detectable difference",
    "identical": "identical",
    "too_few_seeds": "too few seeds",
    "no_verdict": "no verdict",
    "refused": "refused",
}
"""A verdict's key in words, in the order in which headlines tell them."""

_MAX_NAMES = 4  # that a sentence lists
_MAX_RUNS = 8  # that a sentence names
_JOINERS = {"\u200c", "\u200d"}  # invisible, but part of words and of emoji


def visible(text: str) -> str:
    r"""Control and bidirectional characters as escapes (`\x1b`, `\u202e`); white space stays."""
    return "".join(escape(c) if _is_hidden(c) else c for c in text)


def _is_hidden(character: str) -> bool:
    category = unicodedata.category(character)
    if category[0] == "C":
        return character not in "\t\n" and character not in _JOINERS
    return category in ("Zl", "Zp")


def escape(character: str) -> str:
    r"""A character by its number: `\x1b`, `\u202e`."""
    return character.encode("unicode_escape").decode()


def one_line(text: str) -> str:
    """`visible` text without line breaks, and with single spaces."""
    return " ".join(visible(text).split())


def count(number: int | str, noun: str) -> str:
    """`1 seed`, `8 seeds`."""
    return f"{number} {noun}" + ("" if str(number) == "1" else "s")


def listed(names: Sequence[str]) -> str:
    """`a, b and c`; of many names the first three and the number of the others."""
    if len(names) > _MAX_NAMES:
        names = [*names[: _MAX_NAMES - 1], f"{len(names) - _MAX_NAMES + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def seeds_text(seeds: Iterable[int]) -> str:
    """`0 to 4, 7, 9`; of many stretches the first ones and the number of the other seeds."""
    stretches: list[list[int]] = []
    for seed in sorted(seeds):
        if stretches and seed == stretches[-1][-1] + 1:
            stretches[-1][1:] = [seed]
        else:
            stretches.append([seed])
    texts = []
    for first, *rest in stretches[:_MAX_RUNS]:
        last = rest[0] if rest else first
        texts.append(
            f"{first} to {last}" if last > first + 1 else ", ".join(map(str, [first, *rest]))
        )
    others = sum(1 + stretch[-1] - stretch[0] for stretch in stretches[_MAX_RUNS:])
    return ", ".join([*texts, *([f"{others} more"] if others else [])])


def duration(seconds: float) -> str:
    """`24 s`, `3 min`, `2 h 10 min`."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{round(seconds / 3600)} h"


def percent(fraction: float) -> str:
    """`95%`."""
    return f"{100 * fraction:g}%"


def score(metric: Metric, value: float) -> str:
    """A score without its unit, e.g. 97.31 (percent)."""
    return f"{100 * value:.2f}" if metric.is_fraction else _scaled(value, "")


def signed(metric: Metric, difference: float) -> str:
    """A difference without its unit, e.g. +1.20 (percentage points); never `-0.00`."""
    if metric.is_fraction:
        return f"{round(100 * difference, 2) + 0.0:+.2f}"
    return _scaled(difference, "+")


def _scaled(value: float, sign: str) -> str:
    size = abs(value)
    if value != 0 and not 1e-3 <= size < 1e4:
        return f"{value:{sign}.4g}"
    return f"{value + 0.0:{sign}.{4 if size < 10 else 2}f}"


def mean_std(metric: Metric, summary: ScoreSummary, plus_minus: str = " ± ") -> str:
    """`97.31 ± 0.52`; the standard deviation only where there is one.

    Args:
        metric: of the scores.
        summary: their mean and standard deviation.
        plus_minus: what stands between the two.
    """
    if summary.mean is None:
        return UNDEFINED
    mean = score(metric, summary.mean)
    return mean if summary.std is None else mean + plus_minus + score(metric, summary.std)


def interval(metric: Metric, bounds: Interval | NewTestSetInterval | None) -> str:
    """`+1.24 to +12.23`."""
    if bounds is None:
        return UNDEFINED
    return f"{signed(metric, bounds.ci_low)} to {signed(metric, bounds.ci_high)}"


def p_value(p: float) -> str:
    """Two significant digits."""
    return f"{p:.2g}"


def optional(value: float | None, text: Callable[[float], str]) -> str:
    """The value as `text` writes it, or a dash."""
    return UNDEFINED if value is None else text(value)


def unit(metric: Metric) -> str:
    """The unit of differences as tables print them."""
    return "percentage points" if metric.is_fraction else metric.title


def amount(metric: Metric, value: float) -> str:
    """A size in a sentence: `0.9 percentage points`, or a bare number."""
    return count(f"{100 * value:.3g}", "percentage point") if metric.is_fraction else f"{value:.3g}"


def _in_unit(metric: Metric) -> str:
    return f"in {metric.title}" + (" (percentage points)" if metric.is_fraction else "")


def dataset_name(dataset: str) -> str:
    """What `--dataset` names, without kind, directory and ending: `npz:PATH/mine.npz` is `mine`."""
    kind, _, place = dataset.partition(":")
    return PurePath(place).stem or kind


def data_title(dataset: str, imbalance: str, factor: float) -> str:
    """The data of a cell in a few words: `mnist5k, long-tailed, imbalance factor 50`."""
    if imbalance == "none":
        return profile_title(dataset, imbalance)
    return f"{profile_title(dataset, imbalance)}, imbalance factor {factor:g}"


def profile_title(dataset: str, imbalance: str) -> str:
    """The data without their imbalance factor: `mnist5k, long-tailed`."""
    if imbalance == "none":
        return f"{dataset} (original class balance)"
    return f"{dataset}, {imbalance.replace('_', '-')}"


def verdict_label(comparison: Comparison) -> str:
    """The verdict in a word or two."""
    return UNDEFINED if comparison.verdict is None else VERDICTS[comparison.verdict.key]


def verdict_sentence(comparison: Comparison, metric: Metric) -> str:
    """The verdict with its numbers, in one sentence.

    Args:
        comparison: on the primary metric.
        metric: the primary metric.
    """
    key = None if comparison.verdict is None else comparison.verdict.key
    estimates, evidence = comparison.estimates, comparison.evidence
    treatment, baseline = comparison.pairing.treatment, comparison.pairing.baseline
    who = f"{treatment} and {baseline}"
    if key == "refused":
        return (
            f"No verdict: refused for {who}, because {_bad_runs(comparison.facts.refused)} did not "
            "end in a score; drop-pair or worst-score says how to count such runs."
        )
    if estimates is None or evidence is None:
        return f"No verdict: no pair of runs of {who} is left to judge by."
    n, apart = estimates.num_pairs, f"{who} differ by {_difference(comparison, metric)}"
    if key == "identical":
        return f"{who} are identical: no difference in {metric.title} on any of {count(n, 'seed')}."
    if key == "no_verdict" and n == 1:
        return (
            f"No verdict: one seed shows no variation, {evidence.seeds_floor} are needed; {apart} "
            "so far."
        )
    if key == "no_verdict":
        return f"No verdict: all {n} differences are equal, so they show no variation: {apart}."
    if key == "too_few_seeds":
        return f"{_seeds_missing(comparison)}; {apart} so far."
    numbers = _numbers(comparison, metric)
    if key == "equivalent":
        within = amount(metric, evidence.smallest_effect or 0.0)
        return f"{who} are equivalent within {within}: {numbers}."
    if key == "suggestive":
        decided = estimates.seed_interval is not None and estimates.seed_interval.excludes_zero
        missing = "the adjusted p-value does not" if decided else "the interval does not"
        return f"Suggestive, not established: {who} differ by {numbers}; {missing} confirm it."
    if key == "no_detectable_difference":
        return f"No detectable difference between {who}: {numbers}{_power(comparison, metric)}."
    return f"{treatment} is {key} than {baseline}{_size(comparison, metric)}: {numbers}."


def _difference(comparison: Comparison, metric: Metric) -> str:
    assert comparison.estimates is not None
    points = " percentage points" if metric.is_fraction else ""
    return f"{signed(metric, comparison.estimates.difference)}{points} in {metric.title}"


def _numbers(comparison: Comparison, metric: Metric) -> str:
    estimates, evidence = comparison.estimates, comparison.evidence
    assert estimates is not None and evidence is not None  # noqa: PT018
    bounds = estimates.seed_interval
    if bounds is None or evidence.p_holm is None:
        return _difference(comparison, metric)
    direction = "" if metric.higher_is_better else "lower is better; "
    p = f"p = {p_value(evidence.p_holm)}"
    if evidence.num_comparisons > 1:
        p += f" adjusted for {evidence.num_comparisons} comparisons"
    return (
        f"{_difference(comparison, metric)} ({direction}{percent(bounds.confidence)} interval "
        f"{interval(metric, bounds)}, n = {estimates.num_pairs}, {p})"
    )


def _size(comparison: Comparison, metric: Metric) -> str:
    """How large the difference is beside the smallest effect of interest, if one was given."""
    assert comparison.verdict is not None and comparison.evidence is not None  # noqa: PT018
    bound = amount(metric, comparison.evidence.smallest_effect or 0.0)
    match comparison.verdict.size:
        case "more_than":
            return f" by more than {bound}"
        case "less_than":
            return f", but by less than {bound}"
        case "unresolved":
            return f", size unresolved (more or less than {bound})"
    return ""


def _power(comparison: Comparison, metric: Metric) -> str:
    """What the design could have shown."""
    evidence = comparison.evidence
    if evidence is None or evidence.detectable_effect is None or evidence.verdict_power is None:
        return ""
    words = (
        f"; a true difference of {amount(metric, evidence.detectable_effect)} would be found in "
        f"{100 * evidence.verdict_power:.0f}% of such studies"
    )
    if evidence.seeds_needed is not None and evidence.smallest_effect is not None:
        words += (
            f", and finding {amount(metric, evidence.smallest_effect)} four times in five takes "
            f"about {count(evidence.seeds_needed, 'seed')} or more"
        )
    return words


def _seeds_missing(comparison: Comparison) -> str:
    assert comparison.evidence is not None
    family = comparison.evidence.num_comparisons
    purpose = f" for {count(family, 'comparison')}" if family > 1 else ""
    needed = comparison.evidence.seeds_floor
    return f"No verdict yet: {needed} seeds needed{purpose}, {len(comparison.seeds)} run"


def notes(comparison: Comparison, metric: Metric) -> list[str]:
    """What the reader must know about the seeds, a sentence each.

    Args:
        comparison: any.
        metric: of its scores.
    """
    facts, pairing = comparison.facts, comparison.pairing
    sentences = []
    if pairing.same_as is not None:
        sentences.append(
            f"{pairing.treatment} has the same settings as {pairing.same_as} here: trained once."
        )
    if facts.lacking:
        lacking = "; ".join(f"{arm} lacks {seeds_text(s)}" for arm, s in facts.lacking.items())
        sentences.append(f"UNEQUAL SEEDS: only those that both arms have are compared ({lacking}).")
    if facts.dropped:
        sentences.append(f"Left out with their pairs: {_bad_runs(facts.dropped)}.")
    if facts.worst and metric.worst is not None:
        sentences.append(
            f"Counted with the worst score, {metric.worst:g}: {_bad_runs(facts.worst)}."
        )
    return sentences


def _bad_runs(runs: Sequence[BadRun]) -> str:
    names = [f"{run.arm} seed {run.seed} ({run.status})" for run in runs[:_MAX_RUNS]]
    if len(runs) > _MAX_RUNS:
        names.append(f"{len(runs) - _MAX_RUNS} more")
    return ", ".join(names)


def full_verdict(comparison: Comparison, metric: Metric) -> str:
    """The verdict and the notes on its seeds; arguments as in `verdict_sentence`."""
    return " ".join([verdict_sentence(comparison, metric), *notes(comparison, metric)])


def headline(study: StudyComparison) -> str:
    """The answer of a study in a sentence or two."""
    judged = study.judged
    if not judged:
        return f"{study.baseline} alone was trained: there is nothing to compare it with."
    if len(judged) == 1:
        return verdict_sentence(judged[0], study.metric)
    if needs_more_seeds(study):
        so_far = [
            _arm_range(arm, [entry for entry in judged if entry.pairing.treatment == arm], study)
            for arm in dict.fromkeys(entry.pairing.treatment for entry in judged)
        ]
        return (
            f"{_seeds_missing(judged[0])}. Differences from {study.baseline} so far, "
            f"{_in_unit(study.metric)}: {listed(so_far)}."
        )
    clauses = _clauses_by_verdict(study) if len(study.cells) == 1 else _clauses_by_arm(study)
    compared = "" if len(study.cells) == 1 else f" compared with {study.baseline}:"
    return f"In {study.metric.title},{compared} {'; '.join(clauses)}."


def needs_more_seeds(study: StudyComparison) -> bool:
    """Whether no comparison can have a verdict yet."""
    return bool(study.judged) and all(
        entry.evidence is not None and 0 < len(entry.seeds) < entry.evidence.seeds_floor
        for entry in study.judged
    )


def _arm_range(arm: str, entries: Sequence[Comparison], study: StudyComparison) -> str:
    """An arm's difference, or over several cells the smallest and the largest."""
    found = [entry.estimates.difference for entry in entries if entry.estimates is not None]
    ends = [signed(study.metric, end) for end in (min(found), max(found))]
    return f"{arm} {ends[0]}" if ends[0] == ends[1] else f"{arm} {' to '.join(ends)}"


def _clauses_by_verdict(study: StudyComparison) -> list[str]:
    """For one cell: who got which verdict."""
    clauses = []
    for key in VERDICTS:
        members = [e for e in study.judged if e.verdict is not None and e.verdict.key == key]
        if members:
            clauses.append(_clause(key, members, study))
    return clauses


def _clause(key: Key, entries: Sequence[Comparison], study: StudyComparison) -> str:
    who = listed([_with_difference(entry, study.metric, key) for entry in entries])
    verb = "are" if len(entries) > 1 else "is"
    match key:
        case "better" | "worse":
            return f"{who} {verb} {key} than {study.baseline}"
        case "identical":
            return f"{who} {verb} identical to {study.baseline}"
        case "equivalent":
            within = amount(study.metric, study.smallest_effect or 0.0)
            return f"{who} {verb} equivalent to {study.baseline} within {within}"
        case "suggestive":
            return f"{who}: suggestive, not established"
        case "no_detectable_difference":
            return f"{who}: no detectable difference from {study.baseline}"
        case "too_few_seeds":
            evidence, seeds = entries[0].evidence, entries[0].seeds
            assert evidence is not None
            return f"{who}: too few seeds ({evidence.seeds_floor} needed, {len(seeds)} run)"
        case "no_verdict":
            return f"{who}: no verdict"
        case "refused":
            return f"{who}: no verdict, runs diverged or failed"


def _with_difference(entry: Comparison, metric: Metric, key: Key) -> str:
    arm = entry.pairing.treatment
    if entry.estimates is None or key == "identical":
        return arm
    return f"{arm} ({signed(metric, entry.estimates.difference)})"


def _clauses_by_arm(study: StudyComparison) -> list[str]:
    """For several cells: in how many of them each arm got which verdict."""
    arms = list(dict.fromkeys(entry.pairing.treatment for entry in study.judged))
    clauses = []
    for arm in arms[:_MAX_NAMES]:
        keys = Counter(
            entry.verdict.key
            for entry in study.judged
            if entry.pairing.treatment == arm and entry.verdict is not None
        )
        parts = [f"{label} in {keys[key]}" for key, label in VERDICTS.items() if keys[key]]
        clauses.append(f"{arm}: {listed(parts)} of {count(keys.total(), 'cell')}")
    if len(arms) > len(clauses):
        clauses.append(f"{count(len(arms) - len(clauses), 'more arm')} below")
    return clauses


def family_sentence(study: StudyComparison) -> str:
    """Which comparisons share one error rate; empty where there is none."""
    if study.family_size == 0:
        return ""
    risk = f"is at most {percent(round(1 - study.confidence, 12))}"
    if study.family_size == 1:
        return f"There is one comparison, and the chance of a false finding {risk}."
    return (
        f"The {study.family_size} comparisons are one family: their p-values are adjusted together "
        f"(Holm), so the chance of any false finding {risk}."
    )


def seeds_note(family_size: int, num_seeds: int, confidence: float) -> str | None:
    """What to say before training where the seeds cannot be enough; None where they can.

    Args:
        family_size: comparisons that share one error rate.
        num_seeds: of every arm.
        confidence: 1 - α.
    """
    if family_size == 0:
        return None
    floor = power.seeds_floor(family_size, confidence)
    if num_seeds >= floor:
        return None
    return (
        f"note: {count(num_seeds, 'seed')} cannot give a verdict for "
        f"{count(family_size, 'comparison')}, whatever comes out: give at least {floor}"
    )


def chosen_text(values: Sequence[float]) -> str:
    """Values over seeds: `0.5 in 4 seeds, 0.75 in 3`, or of many different ones their range."""
    counted = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    if len(counted) > _MAX_NAMES:
        middle = statistics.median(values)
        return f"{min(values):g} to {max(values):g}, median {middle:g}"
    (first, number), *others = counted
    return ", ".join(
        [f"{first:g} in {count(number, 'seed')}", *(f"{v:g} in {n}" for v, n in others)]
    )


def definitions(study: StudyComparison) -> list[str]:
    """What the columns of a table of differences mean, a sentence each."""
    confidence = percent(study.confidence)
    sentences = [
        f"Which row to use? One whose verdict is better. Each compares one arm with "
        f"{study.baseline}, seed by seed; arms are not compared with one another.",
        f"Why two {confidence} intervals? The first allows for other seeds on this test set and, "
        "with p, decides the verdict; the second for other test examples as well.",
        "P(better): the share of seeds on which the arm beats the baseline; ties count half.",
    ]
    if study.family_size > 1:
        sentences.append("p, adjusted: " + family_sentence(study))
    if any(entry.pairing.control for entry in study.comparisons):
        sentences.append(
            "The A/A control is the baseline under other random keys: its difference is noise."
        )
    return sentences


def shown_metrics(study: StudyComparison) -> list[Metric]:
    """The columns of the table of arms, the primary metric first."""
    names = dict.fromkeys(["accuracy", "balanced_accuracy", "macro_f1", "worst_class_recall"])
    return [
        study.metric,
        *(
            METRICS[name]
            for name in names
            if name != study.metric.name and all(name in each.scores for each in study.summaries)
        ),
    ]
