"""`cwjax sweep`: its cells, what it reads from a file, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from calls import Call
from drawn_runs import write_study

from cwjax.cli import command_line, compare, sweep
from cwjax.cli.sweep import Axes
from cwjax.config import SourceConfig, StudyConfig, TrainConfig
from cwjax.errors import ConfigError
from cwjax.report import measured
from cwjax.study.plan import make_plan
from cwjax.training import local

WRONG = {
    "flag": (["--factors", "10"], "no flag --factors"),
    "factor": (["--imbalance-factor", "10", "0.2"], "--imbalance-factor is 0.2"),
    "no example": (["--imbalance-factor", "10", "1000"], "give at most 360"),
    "no effect": (
        ["--imbalance", "none", "--imbalance-factor", "5"],
        "--imbalance-factor has no effect",
    ),
    "no data": (["--dataset", "mnist5k", "npz:/nowhere.npz"], "nowhere.npz"),
    "features": (
        ["--dataset", "mnist5k", "sklearn:wine", "--model", "cnn"],
        "wine: cnn takes images",
    ),
    "setting": (["--label-column", "y"], "--label-column is a setting of"),
    "no spec": (["--spec", "/nowhere.toml"], "--spec /nowhere.toml: No such file"),
    "spec alone": (["--spec"], "--spec"),
    "one seed": (["--seeds", "10"], "did you mean --num-seeds 10?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_gets_one_line_and_exit_code_2(
    case: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "Engine", None)  # nothing may compile
    arguments, message = WRONG[case]
    ended = call(sweep.main, "--out", tmp_path / "out", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_every_data_set_profile_and_factor_is_a_cell() -> None:
    axes = Axes(
        dataset=("mnist5k", "npz:data/my digits.npz"),
        imbalance=("none", "step"),
        imbalance_factor=(10, 2.5),
        permute_classes=True,
    )
    cells = {data.name(): data for data in axes.cells()}
    assert list(cells) == [
        "mnist5k-none",
        "mnist5k-step-10",
        "mnist5k-step-2.5",
        "my_digits-none",
        "my_digits-step-10",
        "my_digits-step-2.5",
    ]
    assert cells["mnist5k-step-10"].permute_classes
    assert not cells["mnist5k-none"].permute_classes  # there it would have no effect
    assert cells["my_digits-step-2.5"].imbalance_factor == 2.5


def test_each_source_gets_the_settings_that_it_takes() -> None:
    settings = SourceConfig(image_size="20", label_column="kind")
    axes = Axes(
        dataset=("mnist5k", "folder:photos", "table:a.csv"),
        imbalance=("none",),
        source=settings,
        test_split="per-seed",
    )
    digits, photos, table = axes.cells()
    assert digits.source == SourceConfig()
    assert photos.source == SourceConfig(image_size="20")
    assert table.source == SourceConfig(label_column="kind")
    assert {data.test_split for data in axes.cells()} == {"per-seed"}
    (alone,) = Axes(imbalance=("none",), source=settings).cells()
    assert alone.source == settings  # refused when it is loaded


def test_a_sweep_over_folders(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("photos", "scans"):
        for label, number in enumerate((40, 12)):
            (tmp_path / name / f"class {label}").mkdir(parents=True)
            for place in range(number):
                pixels = rng.integers(0, 256, (20, 20), dtype=np.uint8)
                file = tmp_path / name / f"class {label}" / f"{place}.png"
                PIL.Image.fromarray(pixels).save(file)
    cells = Axes(
        dataset=(f"folder:{tmp_path}/photos", f"folder:{tmp_path}/scans", "mnist5k"),
        imbalance=("none",),
        source=SourceConfig(image_size="18"),
    ).cells()
    plan = make_plan(StudyConfig(data=tuple(cells), num_seeds=1, train=TrainConfig(batch_size=8)))
    shapes = [cell.dataset.input_shape for cell in plan.cells.values()]
    assert shapes == [(18, 18, 1), (18, 18, 1), (28, 28, 1)]
    study = write_study(tmp_path / "out", [{"uniform": 0.0}] * 3, 1, data=cells)
    again = measured.command(study).text
    assert "sweep --dataset folder:PATH/TO/photos folder:PATH/TO/scans mnist5k" in again
    assert again.count("--image-size 18") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": ()}, "--dataset is empty"),
        ({"imbalance_factor": (10, 10)}, "--imbalance-factor repeats 10"),
        ({"imbalance_factor": (0.5,)}, "--imbalance-factor is 0.5"),
        ({"imbalance": ("steps",)}, "--imbalance is 'steps': choose one of"),
    ],
)
def test_axes_that_span_no_cells(settings: dict[str, tuple[object]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Axes(**settings).cells()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_sedes = 3", "no flag --num-sedes (did you mean '--num-seeds'?)"),
        ("num_seeds = 'three'", "--num-seeds"),
        ("[train]\nnum_epochs = 3", "[train] is a table"),
        ("num_seeds == 3", "is not TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named(text: str, message: str, call: Call, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(text)
    ended = call(sweep.main, "--spec", tmp_path / "sweep.toml", "--out", tmp_path / "out")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert message in ended.err


def parsed(arguments: list[str]) -> sweep.Flags:
    return command_line.parse(sweep.Flags, None, "sweep", sweep.with_spec(arguments))


def test_a_file_gives_flags_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        'dataset = ["mnist5k", "npz:my.npz"]\nimbalance_factor = [5, 20.5]\nnum_seeds = 4\n'
        'num_epochs = 3\narms = ["balanced", "focal:gamma=1,2"]\n'
        "null_control = true\nquiet = false\n"
    )
    flags = parsed(["--spec", str(path), "--num-seeds", "7"])
    assert flags.data.dataset == ("mnist5k", "npz:my.npz")
    assert flags.data.imbalance_factor == (5, 20.5)
    design = flags.study.design
    assert design.arms == ("balanced", "focal:gamma=1,2")
    assert (design.num_seeds, design.train.num_epochs) == (7, 3)
    assert design.null_control
    assert not flags.study.output.quiet


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("compile_cache = false", ["--no-compile-cache"]),
        ("compile-cache = false", ["--no-compile-cache"]),
        ("compile_cache = true", []),
        ("permute_classes = true", ["--permute-classes"]),
        ("permute_classes = false", []),
        ("seeds = [3, 4]", []),  # --num-seeds of the command line wins
    ],
)
def test_switches_and_seeds_of_a_file(line: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(line)
    own = [f"--spec={tmp_path / 'sweep.toml'}", "--num-seeds", "7"]
    assert sweep.with_spec(own) == [*words, *own]
    flags = parsed(own)
    assert flags.study.design.all_seeds == tuple(range(7))
    assert flags.study.runtime.compile_cache == ("--no-compile-cache" not in words)


@pytest.mark.parametrize("line", ["compile_cach = false", "null_contrl = false", "seed = false"])
def test_a_switch_of_a_file_that_there_is_not_is_an_error(line: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(line)
    with pytest.raises(ConfigError, match=line.partition(" ")[0].replace("_", "-")):
        parsed([f"--spec={tmp_path / 'sweep.toml'}"])


@pytest.mark.usefixtures("no_report")
def test_a_sweep_of_one_cell_is_a_comparison(call: Call, tiny_npz: str, tmp_path: Path) -> None:
    """The same flags give the same runs and the same numbers, whichever command has them."""
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "4", "--num-seeds", "2"]
    flags += ["--num-epochs", "1", "--batch-size", "16", "--quiet"]
    for command, name in ((compare, "a"), (sweep, "b")):
        assert call(command.main, *flags, "--out", tmp_path / name) == (0, "", "")
    files = {
        name: {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and path.name not in ("log.jsonl", ".lock")
        }
        for name in ("a", "b")
    }
    assert files["a"] == files["b"]
    events = (tmp_path / "b" / "log.jsonl").read_text().splitlines()
    assert json.loads(events[-1])["event"] == "finished"
    assert call(sweep.main, *flags, "--out", tmp_path / "a") == (0, "", "")  # continues it
