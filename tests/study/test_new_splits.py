"""Studies whose seeds draw their own test splits: judged by the corrected resampled test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from drawn_runs import SWEEP, SWEEP_EFFECTS, write_study

from cwjax import paired_comparison
from cwjax.analysis.intervals import Interval
from cwjax.analysis.results import StudyComparison
from cwjax.config import DataConfig, StudyConfig
from cwjax.errors import ConfigError
from cwjax.report import tables, words
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import StudyFile, read_study, to_json
from cwjax.study.derive import compare, with_judging
from cwjax.study.merge import merge

PER_SEED = DataConfig(test_split="per-seed")
EFFECTS = {"uniform": 0.0, "balanced": 0.9, "focal": 0.05}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFile, StudyComparison]:
    path = tmp_path_factory.mktemp("splits") / "out"
    written = write_study(path, EFFECTS, 10, data=PER_SEED)
    return written, compare(StudyDirectory(path))


def test_the_verdict_is_that_of_nadeau_and_bengio(
    study: tuple[StudyFile, StudyComparison],
) -> None:
    written, found = study
    ((num_test, num_train),) = set(written.cells[PER_SEED.name()].split_sizes.values())
    p_values = []
    assert written.cells[PER_SEED.name()].num_test(3) == num_test
    for entry in found.comparisons:
        differences = np.array(entry.differences)
        error = np.sqrt((1 / 10 + num_test / num_train) * differences.var(ddof=1))
        t = abs(differences.mean()) / error
        p_values.append(2 * scipy.stats.t.sf(t, 9))
        assert entry.judged is not None
        assert entry.judged.interval is not None
        assert entry.judged.t == pytest.approx(t)
        half = scipy.stats.t.ppf(1 - 0.05 / 4, 9) * error  # Bonferroni, two comparisons
        assert entry.judged.interval.ci_high == pytest.approx(differences.mean() + half)
        assert entry.new_test_sets is None  # new test examples are in the variance already
        assert entry.power is None  # the simulated power is that of the other rule
    low, high = sorted(p_values)
    adjusted = sorted(entry.judged.p for entry in found.comparisons if entry.judged)
    assert adjusted == pytest.approx([2 * low, max(2 * low, high)])  # Holm
    better, focal = found.comparisons
    assert better.verdict is not None
    assert (better.verdict.key, better.verdict.claim) == ("better", "new_splits")
    assert focal.verdict is not None
    assert focal.verdict.key == "no_detectable_difference"


def test_the_same_runs_on_one_test_split_are_judged_by_flips(
    study: tuple[StudyFile, StudyComparison], tmp_path: Path
) -> None:
    write_study(tmp_path / "out", EFFECTS, 10)
    fixed = compare(StudyDirectory(tmp_path / "out")).comparisons[0]
    split = study[1].comparisons[0]
    assert fixed.differences == split.differences
    assert fixed.judged is not None
    assert split.judged is not None
    assert fixed.judged.p == 2 / 2**10
    assert fixed.judged.interval is not None
    assert split.judged.interval is not None
    assert split.judged.interval.ci_low < fixed.judged.interval.ci_low


def test_other_metrics_and_slopes_allow_for_shared_examples_too(
    study: tuple[StudyFile, StudyComparison], tmp_path: Path
) -> None:
    def width(interval: Interval | None) -> float:
        assert interval is not None
        return interval.ci_high - interval.ci_low

    written, found = study
    num_test, num_train = written.cells[PER_SEED.name()].split_sizes[0]
    factor = np.sqrt(1 + 10 * num_test / num_train)
    write_study(tmp_path / "out", EFFECTS, 10)
    fixed = compare(StudyDirectory(tmp_path / "out"))
    for one, other in zip(found.secondary, fixed.secondary, strict=True):
        if other.estimates is not None and other.estimates.seed_interval is not None:
            assert one.estimates is not None
            naive = width(other.estimates.seed_interval)
            assert width(one.estimates.seed_interval) == pytest.approx(factor * naive)
    widths = []
    new = [replace(each, test_split="per-seed") for each in SWEEP]
    for name, data in (("fixed", SWEEP), ("new", new)):
        write_study(tmp_path / name, SWEEP_EFFECTS, 10, data=data)
        slope = compare(StudyDirectory(tmp_path / name)).trends[0]
        widths.append(width(slope.interval))
    assert widths[1] == pytest.approx(factor * widths[0])


def test_words_say_which_claim_is_made(study: tuple[StudyFile, StudyComparison]) -> None:
    _, found = study
    assert words.verdict_label(found.comparisons[0]) == "better on new splits"
    sentence = words.verdict_sentence(found.comparisons[0], found.metric)
    assert sentence.startswith("balanced is better than uniform on new splits: +")
    design = " ".join(words.design_sentences(found))
    assert "corrected resampled t test" in design
    assert 'A verdict of "better" or "worse" holds for new splits of these data' in design
    assert "Holm's method" in design
    assert "flipping" not in design
    assert "95% interval, new splits" in tables.differences(found).headings
    assert "other splits of these data" in " ".join(words.definitions(found))


def test_two_lists_of_scores_give_the_same(tmp_path: Path) -> None:
    effects = {"uniform": 0.0, "balanced": 0.9}
    written = write_study(tmp_path / "out", effects, 10, data=PER_SEED)
    (entry,) = compare(StudyDirectory(tmp_path / "out")).comparisons
    directory = StudyDirectory(tmp_path / "out")
    scores: dict[str, list[float]] = {arm: [] for arm in effects}
    for key in written.run_keys:
        scores[key.arm].append(directory.read_run(key).scores["balanced_accuracy"])
    sizes = written.cells[PER_SEED.name()].split_sizes[0]
    result = paired_comparison(
        scores["uniform"], scores["balanced"], splits=sizes, baseline="uniform",
        treatment="balanced",
    )  # fmt: skip
    assert result.verdict == entry.verdict
    assert str(result).startswith("balanced is better than uniform on new splits: +")
    assert result.comparison.judged is not None
    assert entry.judged is not None
    assert result.comparison.judged.interval == entry.judged.interval


def test_of_unequal_splits_the_safe_sizes_count(
    study: tuple[StudyFile, StudyComparison], tmp_path: Path
) -> None:
    written = write_study(tmp_path / "out", EFFECTS, 10, data=PER_SEED)
    name = PER_SEED.name()
    num_test, num_train = written.cells[name].split_sizes[0]
    sizes = {**written.cells[name].split_sizes, 3: (num_test, num_train // 2)}
    cells = {name: replace(written.cells[name], split_sizes=sizes)}
    directory = StudyDirectory(tmp_path / "out")
    directory.write_study(replace(written, cells=cells))
    wider, usual = compare(directory).comparisons[0].judged, study[1].comparisons[0].judged
    assert wider is not None
    assert usual is not None
    assert wider.t is not None
    assert usual.t is not None
    ratio = (1 / 10 + 2 * num_test / num_train) / (1 / 10 + num_test / num_train)
    assert usual.t / wider.t == pytest.approx(np.sqrt(ratio), rel=0.02)


def test_seeds_added_after_a_look_are_judged_more_strictly(tmp_path: Path) -> None:
    first = with_judging(write_study(tmp_path / "out", EFFECTS, 8, data=PER_SEED))
    directory = StudyDirectory(tmp_path / "out")
    written = write_study(tmp_path / "out", EFFECTS, 12, data=PER_SEED)
    directory.write_study(replace(written, judgings=first.judgings))
    found = compare(directory)
    judged = found.comparisons[0].judged
    assert found.design.times_judged == 2
    assert judged is not None
    assert judged.interval is not None
    assert judged.interval.confidence == pytest.approx(1 - 0.05 / 6)


def test_directories_are_merged_with_the_sizes_of_their_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cwjax.study.derive.write_cell_report", lambda *_: None)
    for name, seeds in (("a", (0, 1, 2, 3)), ("b", (4, 5, 6, 7))):
        write_study(tmp_path / name, EFFECTS, data=PER_SEED, seeds=seeds)
    parts = [tmp_path / "a", tmp_path / "b"]
    found = merge(parts, tmp_path / "c", allow_environment_change=False)
    assert found.design.splits_are_new
    (cell,) = StudyDirectory(tmp_path / "c").known_study().cells.values()
    assert sorted(cell.split_sizes) == list(range(8))


def test_split_sizes_that_are_missing_are_damage(
    study: tuple[StudyFile, StudyComparison],
) -> None:
    written, _ = study
    name = PER_SEED.name()
    lacking = replace(written, cells={name: replace(written.cells[name], split_sizes={})})
    with pytest.raises(ConfigError, match="split_sizes"):
        read_study(to_json(lacking), "study.json")


def test_planned_looks_and_mixed_cells_are_refused() -> None:
    with pytest.raises(ConfigError, match="--max-seeds and --test-split per-seed exclude"):
        StudyConfig(data=(PER_SEED,), max_seeds=20)
    with pytest.raises(ConfigError, match="--test-split differs between cells"):
        StudyConfig(data=(PER_SEED, DataConfig(dataset="mnist")))
