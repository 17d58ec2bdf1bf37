"""`cwjax describe`: facts before any training, and a command that runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cwjax.cli import describe
from cwjax.config import DataConfig
from cwjax.data.dataset import Column, Dataset
from cwjax.data.duplicates import Duplicates, find_duplicates
from cwjax.data.summary import summarise
from cwjax.errors import ConfigError

RNG = np.random.default_rng(0)


def described(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert describe.main(list(arguments)) == 0
    return capsys.readouterr().out


def images(counts: tuple[int, ...], num_test: int = 8) -> Dataset:
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    test = (np.arange(num_test) % len(counts)).astype(np.int32)
    return Dataset.from_splits(
        "made",
        (RNG.integers(0, 256, (len(labels), 6, 6, 1), dtype=np.uint8), labels),
        (RNG.integers(0, 256, (num_test, 6, 6, 1), dtype=np.uint8), test),
        tuple("abcdefgh"[: len(counts)]),
    )


def test_embedded_digits(capsys: pytest.CaptureFixture[str]) -> None:
    text = described(capsys, "mnist5k")
    assert "mnist5k: balanced, 400 training examples per class" in text
    assert "4,000 training and 1,000 test examples of 10 classes; images: 28 x 28 x 1." in text
    assert "No example is there twice." in text
    assert "The smallest test class is '0' with 100 examples: one of them moves its" in text
    assert text.splitlines()[-1] == "cwjax compare --dataset mnist5k --num-epochs 56"


def test_counts_and_imbalance() -> None:
    dataset = images((60, 20, 3), num_test=4)
    summary = summarise(dataset)
    assert summary.train_counts.tolist() == [60, 20, 3]
    assert summary.test_counts.tolist() == [2, 1, 1]
    assert summary.imbalance_factor == 20
    assert summary.smallest_test_class == 1
    command = shlex.split(describe.next_command(DataConfig(dataset="npz:made data.npz"), 12))
    assert command == ["cwjax", "compare", "--dataset", "npz:made data.npz"]


def test_few_data_are_to_be_trained_on_for_longer() -> None:
    """1,000 steps of batches of 56, the default 12 epochs where these are more."""
    assert [describe.suggested_epochs(n) for n in (56, 148, 904, 100_000)] == [1_000, 334, 59, 12]
    command = describe.next_command(DataConfig(dataset="mnist"), 59)
    assert command == "cwjax compare --dataset mnist --num-epochs 59"


def test_duplicates_are_counted_by_content() -> None:
    dataset = images((10, 10))
    inputs, labels = dataset.inputs.copy(), dataset.labels.copy()
    inputs[1] = inputs[0]  # within the training file
    inputs[12] = inputs[0]  # and once more, of another class
    inputs[21] = inputs[20]  # within the test split
    inputs[25] = inputs[3]  # across; index 25 is of class 1, 3 of class 0
    changed = Dataset("made", inputs, labels, 20, dataset.class_names)
    assert find_duplicates(dataset) == Duplicates(0, 0, 0, 0)
    same = int(labels[20] != labels[21]) * 2
    assert find_duplicates(changed) == Duplicates(2, 1, 1, 3 + 2 + same)


def test_columns_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        f"{i * 1.5 if i % 4 else ''},{'red' if i % 3 else 'blue'},{i * i},{i % 2}"
        for i in range(40)
    ]
    file = tmp_path / "patients.csv"
    file.write_text("\n".join(["age,colour,other,y", *rows]))
    with pytest.raises(ConfigError, match=r"--html .*: give a file in a directory that exists"):
        describe.main([f"table:{file}", "--label-column=y", f"--html={tmp_path / 'no' / 'p.html'}"])
    text = described(capsys, f"table:{file}", "--label-column", "y")
    age, colour = (
        next(line.split() for line in text.splitlines() if line.startswith(name))
        for name in ("age", "colour")
    )
    known = [i * 1.5 for i in range(40) if i % 4]
    assert age == ["age", f"{np.mean(known):.4g}", f"{np.std(known):.4g}", "1.5", "58.5", "10"]
    assert colour == ["colour", "2", "red", "(65%)"]
    assert "each run fills in the median" in text
    assert f"--dataset table:{file} --label-column y" in text.splitlines()[-1]


def test_long_tables_are_cut(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "many.npz"
    labels = np.arange(300) % 50
    np.savez(file, features=RNG.normal(size=(300, 40)), labels=labels)
    text = described(capsys, f"features:{file}")
    assert "(20 of 50 classes)" in text
    assert "(20 of 40 columns)" in text
    assert "feature 0 " in text
    assert "feature 39" in text
    assert "feature 20" not in text


@pytest.mark.fault(78)
def test_page_with_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = tmp_path / "in", tmp_path / "page.html"
    for name in ("l'été <1>", "zwei"):
        for index in range(8):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{index}.png")
    text = described(capsys, f"folder:{folder}", "--html", str(page))
    assert f"page: {page}" in text
    html = page.read_text("utf-8")
    assert "data:image/svg+xml;base64," in html
    assert "l&#39;été &lt;1&gt;" in html
    assert "<1>" not in html
    assert "4 of 16 examples" in html
    # quoted, so that it can be pasted
    command = shlex.split(text.splitlines()[-2])
    assert command[:4] == ["cwjax", "compare", "--dataset", f"folder:{folder}"]


def test_no_training_library_is_loaded() -> None:
    program = (
        "import sys; from cwjax.cli import describe; describe.main(['mnist5k'])\n"
        "print(sorted({'jax', 'flax', 'matplotlib', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.splitlines()[-1] == "[]"


def test_what_cannot_be_described() -> None:
    with pytest.raises(ConfigError, match="did you mean folder:"):
        describe.main([str(Path(__file__).parent)])


def test_guess_grows_with_the_work() -> None:
    small, large = images((60, 60)), images((600, 600))
    data = DataConfig(imbalance="none")
    little, much = (
        describe.guessed_seconds(each, describe.count_train(each, data), 12)
        for each in (small, large)
    )
    assert much > 5 * little


def test_columns_are_told_apart() -> None:
    inputs = np.array([[1, 0, 1], [np.nan, 1, 0], [3, 1, 0], [5, 1, 0]] * 2, np.float32)
    inputs[4:] += [7, 0, 0]
    columns = (Column("size"), Column("no", "kind"), Column("yes", "kind"))
    labels = np.array([0, 1] * 4, np.int32)
    summary = summarise(Dataset("made", inputs, labels, 6, ("a", "b"), columns))
    (number,), (category,) = summary.numbers, summary.categories
    assert (number.num_missing, number.low, number.high) == (2, 1, 12)
    assert (category.num_levels, category.most_frequent, category.share) == (2, "no", 0.75)
