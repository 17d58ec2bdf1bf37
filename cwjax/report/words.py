"""Every number format and every sentence of terminal and reports, made from typed facts."""

from __future__ import annotations

import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from cwjax.analysis.decision import Claim, Key
from cwjax.analysis.family import Comparison
from cwjax.analysis.intervals import Interval, error_rate
from cwjax.analysis.learning import LateGain
from cwjax.analysis.metrics import METRICS, Metric
from cwjax.analysis.paired import can_reject
from cwjax.analysis.pairing import BadRun
from cwjax.analysis.results import CellFacts, LookFacts, ScoreSummary, StudyComparison
from cwjax.analysis.shape import shape
from cwjax.arms.arm import STAGE_STEPS
from cwjax.data.dataset import Dataset
from cwjax.data.summary import Summary
from cwjax.store.schema import ExportedModel

UNDEFINED = "–"

VERDICTS: dict[Key, str] = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equivalent",
    "suggestive": "suggestive",
    "no_detectable_difference": "no detectable difference",
    "identical": "identical",
    "too_few_seeds": "too few seeds",
    "no_randomness": "no randomness",
    "refused": "refused",
}
"""A verdict's key in words, in the order in which headlines tell them."""

_CLAIMS: dict[Claim | None, str] = {
    "this_test_set": " on this test set",
    "new_splits": " on new splits",
}
"""What a better or worse arm is that on, where that is less than on new test examples."""

_MAX_NAMES = 4  # that a sentence lists
_MAX_RUNS = 8  # that a sentence names
_JOINERS = {"\u200c", "\u200d"}  # invisible, but part of words and of emoji


def visible(text: str) -> str:
    r"""Control and bidirectional characters as escapes (`\x1b`, `\u202e`); white space stays."""
    if text.isprintable():  # of most texts; a page has a hundred thousand
        return text
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


def mean_std(metric: Metric, summary: ScoreSummary) -> str:
    """`97.31 ± 0.52`; the standard deviation only where there is one."""
    if summary.mean is None:
        return UNDEFINED
    mean = score(metric, summary.mean)
    return mean if summary.std is None else f"{mean} ± {score(metric, summary.std)}"


def interval(metric: Metric, bounds: Interval | None) -> str:
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
    """The verdict in a word or a few."""
    verdict = comparison.verdict
    if verdict is None:
        return UNDEFINED
    return VERDICTS[verdict.key] + _CLAIMS.get(verdict.claim, "")


def verdict_sentence(comparison: Comparison, metric: Metric) -> str:
    """The verdict with its numbers, in one sentence.

    Args:
        comparison: on the primary metric.
        metric: the primary metric.
    """
    key = None if comparison.verdict is None else comparison.verdict.key
    estimates, judged = comparison.estimates, comparison.judged
    treatment, baseline = comparison.pairing.treatment, comparison.pairing.baseline
    who = f"{treatment} and {baseline}"
    if comparison.facts.refused:
        return (
            f"No verdict: refused for {who}, because {_bad_runs(comparison.facts.refused)} did not "
            "end in a score; drop-pair or worst-score says how to count such runs."
        )
    if estimates is None or judged is None:
        return f"No verdict: no pair of runs of {who} is left to judge by."
    n, apart = estimates.num_pairs, f"{who} differ by {_difference(comparison, metric)}"
    if key == "identical":
        return f"{who} are identical: no difference in {metric.title} on any of {count(n, 'seed')}."
    if key == "no_randomness":
        return (
            f"No verdict: {who} give the same result on every seed, so the seeds show no "
            f"variation: {apart}. With --test-split per-seed each seed draws its own examples."
        )
    if key == "too_few_seeds":
        return f"{_seeds_missing(comparison)}; {apart} so far."
    numbers = _numbers(comparison, metric)
    if key == "equivalent":
        return f"{who} are equivalent within {_effect(comparison, metric)}: {numbers}."
    if key == "suggestive":
        return (
            f"Suggestive, not established: {who} differ by {numbers}; alone this comparison would "
            f"pass, {_among(comparison)} it does not."
        )
    if key == "no_detectable_difference":
        return f"No detectable difference between {who}: {numbers}{_power(comparison, metric)}."
    assert comparison.verdict is not None
    here = _CLAIMS.get(comparison.verdict.claim, "")
    return (
        f"{treatment} is {key} than {baseline}{here}{_size(comparison, metric)}: {numbers}."
        f"{_fragile(comparison)}"
    )


def _difference(comparison: Comparison, metric: Metric) -> str:
    assert comparison.estimates is not None
    points = " percentage points" if metric.is_fraction else ""
    return f"{signed(metric, comparison.estimates.difference)}{points} in {metric.title}"


def _numbers(comparison: Comparison, metric: Metric) -> str:
    judged = comparison.judged
    if judged is None or judged.interval is None or judged.t is None:
        equal = "equal on every seed, " if judged is not None and judged.t is None else ""
        p = "" if judged is None or judged.p is None else f", p = {p_value(judged.p)}"
        return f"{_difference(comparison, metric)} ({equal}n = {len(comparison.seeds)}{p})"
    direction = "" if metric.higher_is_better else "lower is better; "
    test = f"p = {p_value(judged.p)}" if judged.p is not None else f"|t| = {judged.t or 0:.1f}"
    together = ""
    if comparison.num_comparisons > 1:
        together = f" that holds for all {comparison.num_comparisons} comparisons"
    return (
        f"{_difference(comparison, metric)} ({direction}{percent(judged.interval.confidence)} "
        f"interval{together} {interval(metric, judged.interval)}, n = {len(comparison.seeds)}, "
        f"{test})"
    )


def _among(comparison: Comparison) -> str:
    if comparison.num_comparisons > 1:
        return f"among {comparison.num_comparisons} comparisons"
    return "at this look"


def _effect(comparison: Comparison, metric: Metric) -> str:
    return amount(metric, comparison.smallest_effect or 0.0)


def _size(comparison: Comparison, metric: Metric) -> str:
    """How large the difference is beside the smallest effect of interest, if one was given."""
    assert comparison.verdict is not None
    bound = _effect(comparison, metric)
    match comparison.verdict.size:
        case "more_than":
            return f" by more than {bound}"
        case "less_than":
            return f", but by less than {bound}"
        case "unresolved":
            return f", size unresolved (more or less than {bound})"
    return ""


def _fragile(comparison: Comparison) -> str:
    seed = None if comparison.verdict is None else comparison.verdict.fragile_without
    return "" if seed is None else f" Fragile: without seed {seed} the interval would include 0."


def _power(comparison: Comparison, metric: Metric) -> str:
    """What the design could have shown."""
    power = comparison.power
    if power is None:
        return ""
    words = (
        f"; this design would reveal a difference of {amount(metric, power.detectable_effect)} or "
        "more four times in five"
    )
    if power.seeds_needed is not None:
        needed = count(power.seeds_needed, "seed")
        words += f", and one of {_effect(comparison, metric)} with {needed}"
    return words


def seeds_floor(confidence: float) -> int:
    """Seeds below which no verdict is possible, however many comparisons there are."""
    alpha = error_rate(confidence)
    return next(n for n in range(1, 64) if can_reject(n, alpha))


def _seeds_missing(comparison: Comparison) -> str:
    assert comparison.estimates is not None
    confidence = comparison.estimates.probability_better_interval.confidence
    needed, run = seeds_floor(confidence), len(comparison.seeds)
    if run >= needed:  # many comparisons one by one, or a judging of a study that was judged before
        return f"No verdict yet: {run} seeds are too few for an error rate as strict as here"
    return f"No verdict yet: {needed} seeds needed, {run} run"


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
    if comparison.judged is not None and comparison.judged.status == "judged":
        sentences += _odd_differences(comparison)
    return sentences


def _odd_differences(comparison: Comparison) -> list[str]:
    """What makes false verdicts likelier than the error rate says."""
    found, who = shape(comparison.seeds, comparison.differences), comparison.pairing.treatment
    sentences = []
    if found.far_seeds:
        several = len(found.far_seeds) > 1
        sentences.append(
            f"The difference of {who} on seed{'s' * several} {seeds_text(found.far_seeds)} "
            f"{'lie' if several else 'lies'} far from all others: see whether a run collapsed."
        )
    if found.skewness is not None:
        sentences.append(
            f"The differences of {who} are skewed ({found.skewness:+.1f}): with such, a verdict is "
            "false more often than the error rate says."
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
    floor = seeds_floor(study.confidence)
    return bool(study.judged) and all(0 < len(entry.seeds) < floor for entry in study.judged)


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
            needed, run = seeds_floor(study.confidence), len(entries[0].seeds)
            numbers = f"{needed} needed, {run} run" if run < needed else f"{run} run"
            return f"{who}: too few seeds ({numbers})"
        case "no_randomness":
            return f"{who}: no verdict, every seed gives the same"
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
    risk = f"is at most {percent(error_rate(study.confidence))}"
    if study.family_size == 1:
        return f"There is one comparison, and the chance of a false finding {risk}."
    how = "judged together by flipping the signs of seeds"
    if study.design.splits_are_new:
        how = "with p adjusted by Holm's method and intervals by Bonferroni's"
    return (
        f"The {study.family_size} comparisons are one family, {how}: the chance of any false "
        f"finding {risk}, and all their intervals hold together."
    )


def design_sentences(study: StudyComparison) -> list[str]:
    """How the study was designed: seeds and looks, the family, what a verdict claims."""
    design, most = study.design, len(study.seeds)
    if design.planned_looks:
        numbers = listed_numbers(design.planned_looks)
        last = design.looks[-1].num_seeds if design.looks else 0
        saved = design.num_runs_without_looks - design.num_runs
        looks = (
            f"Results were read at planned looks ({numbers} seeds), and an arm that was decided "
            f"trained no further: {count(last, 'seed')} were enough, which saved "
            f"{count(saved, 'run')} of {design.num_runs_without_looks}."
        )
    elif design.times_judged > 1:
        looks = (
            f"Seeds were added after results had been read: this study has been judged "
            f"{design.times_judged} times, so p is now held against {p_value(design.alpha)}."
        )
    else:
        looks = f"Every arm was trained on the same {count(most, 'seed')}, and judged once."
    claim = ""
    if design.splits_are_new:
        claim = (
            "Every seed drew its own test split, and since such splits share examples, the "
            'corrected resampled t test judges (Nadeau & Bengio 2003). A verdict of "better" or '
            '"worse" holds for new splits of these data; other data are not covered.'
        )
    if has_new_test_sets(study):
        claim = (
            'A verdict of "better" or "worse" holds for new test examples too; one "on this test '
            'set" could be the luck of these test examples. Neither covers other training data.'
        )
    tuned = _tuning_sentence(study)
    return [sentence for sentence in (looks, tuned, family_sentence(study), claim) if sentence]


def _tuning_sentence(study: StudyComparison) -> str:
    """How arms were tuned and what it cost; empty where none was."""
    tuned = {each.arm: each.tuning for each in study.summaries if each.tuning is not None}
    if not tuned:
        return ""
    numbers = [facts.num_candidates for facts in tuned.values()]
    num_bad = sum(each.tuning.num_bad for each in study.summaries if each.tuning is not None)
    lost = f", {num_bad} of which ended without a score and could not be chosen" * (num_bad > 0)
    plain = dict.fromkeys(
        each.arm for each in study.summaries if each.tuning is None and not each.chosen
    )
    return (
        f"Tuned: {listed(list(tuned))}; each of their runs is the best of "
        f"{span(min(numbers), max(numbers))} settings by {study.metric.title} on the validation "
        "examples of its seed. Behind the "
        f"{count(study.design.num_runs - study.design.num_candidates, 'run')} that are compared "
        f"stand {study.design.num_candidates} more{lost}."
        + (f" Not tuned: {listed(list(plain))}." if plain else "")
    )


def span(low: int, high: int) -> str:
    """`9`, or `7 to 360` where they differ."""
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def listed_numbers(numbers: Sequence[int]) -> str:
    """`8, 10 and 15`."""
    return " and ".join(filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])]))


def failure_line(cell: str, failure: str, *, many_cells: bool) -> str:
    """Says that a run failed.

    Args:
        cell: of the run.
        failure: the run and the reason.
        many_cells: name the cell too.
    """
    return one_line(f"failed: {cell + ' ' if many_cells else ''}{failure}")


def lost_line(node: str, num_runs: int) -> str:
    """Says that a process of a cluster was lost.

    Args:
        node: where it was.
        num_runs: that it trained.
    """
    runs = (
        "its run goes on from where it was"
        if num_runs == 1
        else (f"its {num_runs} runs go on from where they were")
    )
    return one_line(f"lost a process on {node}: {runs} last kept")


def look_sentence(look: LookFacts, going_on: int) -> str:
    """What a planned look found, while the study goes on.

    Args:
        look: the latest.
        going_on: comparisons that train on.
    """
    decided = listed([arm for _, arm in look.decided])
    found = f"{decided} decided" if look.decided else "nothing decided"
    rest = "all answered" if not going_on else f"{count(going_on, 'comparison')} to go on with"
    return f"look at {look.num_seeds} seeds: {found}, {rest}"


def _where(study: StudyComparison, cell: CellFacts) -> str:
    """` on mnist5k, long-tailed, imbalance factor 50`; nothing where there is one cell."""
    title = data_title(dataset_name(cell.dataset), cell.imbalance, cell.imbalance_factor)
    return "" if len(study.cells) == 1 else f" on {title}"


def training_notes(study: StudyComparison) -> list[str]:
    """Classes that were not learnt and arms that were still learning, in sentences."""
    sentences = []
    for cell in study.cells:
        where = _where(study, cell)
        by_number: dict[int, list[str]] = {}
        for arm, classes in cell.never_predicted.items():
            by_number.setdefault(len(classes), []).append(arm)
        for number, arms in sorted(by_number.items(), reverse=True):
            never, they_have = ("never predict", "they have") if len(arms) > 1 else (
                "never predicts", "it has")  # fmt: skip
            sentences.append(
                f"{listed(arms)} {never} {number} of {cell.num_classes} classes{where}: "
                f"{they_have} not learnt them; where networks are trained, consider more epochs."
            )
        if cell.still_learning:
            sentences.append(_still_learning(cell.still_learning, where))
    return sentences


def _still_learning(gains: Mapping[str, LateGain], where: str) -> str:
    """The arms in the study's order, the first one with its figures.

    Args:
        gains: by arm; at least one.
        where: the cell, of a study of several.
    """
    (first, late), *others = gains.items()
    more = f", and that of {listed([arm for arm, _ in others])} rose too" if others else ""
    return (
        f"Still learning{where}: over the last {count(late.num_epochs, 'epoch')} the balanced "
        f"validation accuracy of {first} rose by {count(f'{100 * late.gain:.1f}', 'point')}{more}. "
        "The verdicts are of networks trained this briefly: see with a larger --num-epochs whether "
        "they hold."
    )


def tuning_notes(study: StudyComparison) -> list[str]:
    """Where grids end before the best value may, in one sentence for each cell."""
    sentences = []
    for cell in study.cells:
        ends = []
        for summary in (each for each in study.summaries if each.cell == cell.cell):
            tried = {} if summary.tuning is None else summary.tuning.tried
            for setting, values in tried.items():
                chosen = summary.chosen.get(setting, ())
                ends += [
                    f"{summary.arm} ({setting}={edge:g}, in {chosen.count(edge)} of {len(chosen)})"
                    for edge in (min(values), max(values))
                    if len(values) > 2 and edge != 0 and 2 * chosen.count(edge) > len(chosen)
                ]
        if ends:
            sentences.append(
                f"Most seeds{_where(study, cell)} chose the end of a grid: {', '.join(ends)}; "
                "wider grids may serve these arms better."
            )
    return sentences


def not_validated(
    class_names: Sequence[str], validation_counts: Mapping[int, Sequence[int]]
) -> str | None:
    """What validation scores leave out; None where every seed validates on every class.

    Args:
        class_names: one name per class.
        validation_counts: of each class, by seed.
    """
    lacking = [
        repr(class_name)
        for class_name, *counts in zip(class_names, *validation_counts.values(), strict=True)
        if 0 in counts
    ]
    if not lacking:
        return None
    return f"leave out {listed(lacking)}, too rare to validate on"


def stages_note(stage_steps: Mapping[str, Sequence[int]]) -> str | None:
    """Which arms of several stages end in one that is too short; None where none does.

    Args:
        stage_steps: optimiser steps of each stage, by arm.
    """
    short = [
        f"{arm} ({count(steps[-1], 'step')})"
        for arm, steps in stage_steps.items()
        if len(steps) > 1 and steps[-1] < STAGE_STEPS
    ]
    if not short:
        return None
    return (
        f"the last stage of {listed(short)} is shorter than {STAGE_STEPS} steps, in which a method "
        "may not show what it can do: give more --num-epochs"
    )


def seeds_note(family_size: int, num_seeds: int, confidence: float) -> str | None:
    """What to say before training where the seeds cannot be enough; None where they can.

    Args:
        family_size: comparisons that share one error rate.
        num_seeds: of every arm.
        confidence: 1 - α.
    """
    floor = seeds_floor(confidence)
    if family_size == 0 or num_seeds >= floor:
        return None
    return (
        f"note: {count(num_seeds, 'seed')} cannot give a verdict, whatever comes out: give at "
        f"least {floor}"
    )


def tuning_note(numbers: Sequence[int]) -> str | None:
    """What to say before training where arms are tuned; None where none is.

    Args:
        numbers: of the settings of each tuned arm.
    """
    if not numbers:
        return None
    return (
        f"{count(len(numbers), 'arm')} tuned: each run is the one of "
        f"{span(min(numbers), max(numbers))} settings that is best on the validation examples of "
        "its seed"
    )


def tried_text(values: Sequence[float]) -> str:
    """`0.3, 1, 3`."""
    return ", ".join(f"{value:g}" for value in values) or UNDEFINED


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


def covered(study: StudyComparison) -> str:
    """What the first interval of every comparison holds for."""
    return "new splits" if study.design.splits_are_new else "this test set"


def has_new_test_sets(study: StudyComparison) -> bool:
    """Whether there are intervals over new test sets: they need logits."""
    return any(entry.new_test_sets is not None for entry in study.comparisons)


def definitions(study: StudyComparison) -> list[str]:
    """What the columns of a table of differences mean, a sentence each."""
    confidence = percent(study.confidence)
    sentences = [
        f"Which row to use? One whose verdict is better. Each compares one arm with "
        f"{study.baseline}, seed by seed; arms are not compared with one another.",
    ]
    if study.design.splits_are_new:
        sentences.append(
            f"The {confidence} interval allows for other splits of these data, into training, "
            "validation and test examples; one that leaves out 0 is an established difference."
        )
    if has_new_test_sets(study):
        sentences.append(
            f"Why two {confidence} intervals? The first allows for other seeds on this test set, "
            "the second for other test examples as well; one that leaves out 0 is an established "
            "difference."
        )
    sentences.append("P(better): the share of seeds on which the arm wins; ties count half.")
    if study.family_size > 1:
        which = "Both intervals" if has_new_test_sets(study) else "The interval"
        sentences.append(
            f"{which} and p are adjusted for all comparisons together; the interval alone is what "
            "an arm would have if it were the only one."
        )
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


def exported_sentence(model: ExportedModel, out: Path) -> str:
    """Which model was written, and where.

    Args:
        model: what is known of it.
        out: its directory.
    """
    accuracy = model.test_scores["balanced_accuracy"]
    found = "" if accuracy is None else f", {percent(round(accuracy, 4))} balanced accuracy on test"
    return f"{model.run}{found}: {out} (README.md says how to use it)"


def data_headline(dataset: Dataset, summary: Summary) -> str:
    """How imbalanced a data set is.

    Args:
        dataset: what is described.
        summary: its facts.
    """
    factor, counts = summary.imbalance_factor, summary.train_counts
    largest, smallest = (dataset.class_names[at] for at in (counts.argmax(), counts.argmin()))
    if factor == 1:
        return f"{dataset.name}: balanced, {counts[0]:,} training examples per class"
    return (
        f"{dataset.name}: imbalance factor {factor:.3g}, from {counts.max():,} training examples "
        f"of {largest!r} to {counts.min():,} of {smallest!r}"
    )


def data_lead(dataset: Dataset) -> str:
    """How many examples there are, and what they are."""
    kind = "features" if dataset.is_features else "images"
    shape = " x ".join(map(str, dataset.input_shape))
    return (
        f"{dataset.num_train:,} training and {len(dataset.test_labels):,} test examples of "
        f"{dataset.num_classes} classes; {kind}: {shape}."
    )


def duplicates_sentence(summary: Summary) -> str:
    """What examples a data set has more than once, by content."""
    found = summary.duplicates
    if not (found.train or found.test or found.across):
        return "No example is there twice."
    across = f"{found.across:,} test examples are in the training file too"
    contradicting = f"{found.contradicting:,} examples equal one of another class"
    return (
        f"By content, {found.train:,} examples are repeated in the training file and "
        f"{found.test:,} in the test split; {across}"
        + (" (scores on them measure memory)" if found.across else "")
        + (f"; {contradicting}." if found.contradicting else ".")
    )


def resolution_sentence(dataset: Dataset, summary: Summary) -> str:
    """The smallest difference that the test split can show at all.

    Args:
        dataset: what is described.
        summary: its facts.
    """
    label = summary.smallest_test_class
    number, present = int(summary.test_counts[label]), int((summary.test_counts > 0).sum())
    step, floor = 100 / number, seeds_floor(0.95)  # flips need so many, of seeds or examples
    told = (
        f"a difference of two arms' recalls below {100 * floor / number:.3g} points ({floor} "
        "examples) may be luck with these examples"
        if number >= floor
        else f"with fewer than {floor} any difference of two arms' recalls may be luck with them"
    )
    absent = int((summary.test_counts == 0).sum())
    return (
        f"The smallest test class is {dataset.class_names[label]!r} with "
        f"{count(f'{number:,}', 'example')}: one of them moves its recall by {step:.3g} points "
        f"and balanced accuracy by {step / present:.2g} points, and {told} (95% confidence)."
        + (f" Without test examples: {absent} of the classes." if absent else "")
    )


def time_sentence(seconds: float) -> str:
    """What stands before the command that comes next."""
    return (
        f"The default study, two arms on ten seeds, takes about {duration(seconds)} on the "
        "CPU cores here when they are idle (a guess from their speed; --dry-run measures it):"
    )
