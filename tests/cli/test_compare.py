"""`cwjax compare`: what it refuses, what it shows, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from calls import Call

from cwjax.arms.arm import SCHEMES
from cwjax.cli import compare
from cwjax.cli.study import directory_name
from cwjax.config import CIFAR_LT, DataConfig, StudyConfig, TrainConfig
from cwjax.report.measured import PLACEHOLDER, command
from cwjax.store.directory import StudyDirectory

ROOT = Path(__file__).parents[2]
Refused = Callable[..., str]


def script(
    *flags: str, env: Mapping[str, str] | None = None, shell: str = '"$@"'
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, run by a line of bash."""
    command = ["bash", "-c", shell, "bash", sys.executable, "-m", "experiments.compare", *flags]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **(env or {})}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def small(tiny_npz: str, out: Path) -> list[str]:
    """Flags of a comparison that takes a second or two."""
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "4", "--num-seeds", "2"]
    flags += ["--model", "linear"]
    return [*flags, "--num-epochs", "2", "--batch-size", "16", "--out", str(out)]


WRONG = [
    pytest.param(["--dataset", "cifar"], "--dataset is 'cifar'", id="unknown data set"),
    pytest.param(["--dataset", "mine.npz"], "did you mean npz:mine.npz", id="bare path"),
    pytest.param(["--arms", "uniform", "balancd"], "did you mean 'balanced'", id="unknown arm"),
    pytest.param(["--arms", "focal:beta=1"], "no setting 'beta'", id="unknown setting"),
    pytest.param(["--epochs", "5"], "no flag --epochs (did you mean '--num-epochs'?)", id="flag"),
    pytest.param(
        ["--metric", "balanced-accuracy"], "did you mean 'balanced_accuracy'", id="metric"
    ),
    pytest.param(["--imbalance", "longtailed"], "longtailed", id="unknown profile"),
    pytest.param(
        ["--imbalance-factor", "0.5"],
        "--imbalance-factor is 0.5",
        id="factor",
        marks=pytest.mark.fault(47),
    ),
    pytest.param(
        ["--imbalance", "none", "--imbalance-factor", "50"],
        "--imbalance-factor has no effect with --imbalance none",
        id="factor without effect",
    ),
    pytest.param(
        ["--num-epochs", "0"], "--num-epochs is 0", id="epochs", marks=pytest.mark.fault(47)
    ),
    pytest.param(["--num-epochs", "ten"], "--num-epochs", id="not a number"),
    pytest.param(["--model", "resnet30"], "did you mean 'resnet", id="model"),
    pytest.param(["--model", "mlp:hiden=8"], "did you mean 'hidden'", id="setting of a model"),
    pytest.param(["--model", "net.py:Net"], "there is no file net.py", id="model's file"),
    pytest.param(["--optimizer", "adamv"], "did you mean 'adam", id="optimiser"),
    pytest.param(["--optimizer", "sgd:momentum=1"], "give a number in [0, 1)", id="momentum"),
    pytest.param(["--schedule", "cosin"], "did you mean 'cosine'", id="schedule"),
    pytest.param(["--augment", "flip_crop"], "choose one of none, flip", id="augmentation"),
    pytest.param(["--warmup", "12"], "--warmup is 12 epochs of 12", id="warm-up"),
    pytest.param(["--protocol", "cifar"], "cifar_lt", id="protocol"),
    pytest.param(
        ["--batch-size", "100000"],
        "--batch-size is 100000",
        id="batch",
        marks=pytest.mark.fault(46),
    ),
    pytest.param(
        ["--learning-rate", "nan"],
        "--learning-rate is nan",
        id="learning rate",
        marks=pytest.mark.fault(47),
    ),
    pytest.param(["--confidence", "0.9999999999999999"], "--confidence is", id="confidence"),
    pytest.param(
        ["--seeds", "1", "2", "1"],
        "--seeds repeats [1]",
        id="repeated seeds",
        marks=pytest.mark.fault(48),
    ),
    pytest.param(
        ["--seeds", "-1"], "--seeds has -1", id="negative seed", marks=pytest.mark.fault(49)
    ),
    pytest.param(
        ["--seeds", "10"],
        "--seeds 10 is one seed, number 10: did you mean --num-seeds 10?",
        id="one seed",
    ),
    pytest.param(
        ["--seeds", "1", "2", "--num-seeds", "5"],
        "--seeds names 2 seeds and --num-seeds 5",
        id="seeds twice",
    ),
    pytest.param(["--num-seeds", "1000000000"], "give an integer from 1 to 10000", id="typo"),
    pytest.param(["--protocol", "notebook"], "give --imbalance none", id="protocol"),
    pytest.param(["--dataset", "npz:/nowhere.npz"], "nowhere.npz", id="missing file"),
    pytest.param(["--schemes", "/nowhere.py"], "no such Python file", id="missing schemes"),
    pytest.param(["--cluster", "far"], "give local, auto or HOST:PORT", id="cluster"),
    pytest.param(["--dry-run", "--quiet"], "--quiet has no effect with --dry-run", id="dry"),
    pytest.param(["--model", "cnm"], "--model is 'cnm'", id="model"),
    pytest.param(
        ["--platform", "gpu"], "--platform gpu", id="no accelerator", marks=pytest.mark.fault(69)
    ),
    pytest.param(["--precision", "bf16"], "--precision bf16 is for accelerators", id="precision"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG)
def test_a_mistake_gets_one_line_and_exit_code_2(
    flags: list[str], message: str, refused: Refused
) -> None:
    assert message in refused(*flags)


def test_one_seed_can_be_asked_for(refused: Refused) -> None:
    line = refused("--seeds", "7", "--num-seeds", "1", "--batch-size", "100000")
    assert "seed 7 trains on" in line


@pytest.mark.fault(11)
def test_an_output_path_that_is_a_file_is_left_alone(call: Call, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    ended = call(compare.main, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "is a file: give a directory" in ended.err
    assert (tmp_path / "out").read_text() == "mine"


def test_checking_settings_imports_no_jax() -> None:
    code = (
        "import sys; from cwjax.config import StudyConfig; StudyConfig();"
        "import cwjax, cwjax.cli.compare, cwjax.cli.sweep, cwjax.cli.report;"
        "slow = {'jax', 'numpy', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules);"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_arms_are_listed_and_explained(call: Call) -> None:
    ended = call(compare.main, "--list-arms")
    assert ended.code == 0
    for name in ("uniform", "balanced", "ldam", "crt", "tau_norm", "Menon"):
        assert name in ended.out
    for scheme in SCHEMES.values():
        for line in scheme.about.splitlines():
            assert line in ended.out
        for setting in scheme.settings:
            is_common = setting.name in ("weights", "drw", "lr", "weight_decay")
            explained = ended.out if is_common else scheme.about
            assert f"{setting.name}: " in explained
    assert "    best: gamma=best(0.5,1,2):lr=best(0.3,1,3)\n" in ended.out


@pytest.fixture
def own_scheme(tmp_path: Path) -> Iterator[Path]:
    """A file with a scheme; what it registers is forgotten afterwards."""
    file = tmp_path / "own.py"
    file.write_text(
        "import cwjax\nfrom cwjax.arms.schemes import weighted_row\n\n\n"
        '@cwjax.scheme(formula="w_c = n_c", source="me", kind="class_weights")\n'
        "def upside_down(context, *, power: float = 1.0):\n"
        '    """Frequent classes weigh more."""\n'
        "    return weighted_row(context, context.weight_counts**power)\n"
    )
    known = dict(SCHEMES)
    yield file
    SCHEMES.clear()
    SCHEMES.update(known)


@pytest.mark.usefixtures("no_report")
def test_a_scheme_of_ones_own_is_listed_and_trained(
    call: Call, own_scheme: Path, tiny_npz: str, tmp_path: Path
) -> None:
    listed = call(compare.main, "--schemes", own_scheme, "--list-arms").out
    assert "upside_down:power=1\n    w_c = n_c\n    me\n    Frequent classes weigh more." in listed
    SCHEMES.pop("upside_down")
    flags = [*small(tiny_npz, tmp_path / "out"), "--arms", "upside_down:power=0.5"]
    ended = call(compare.main, *flags, "--schemes", own_scheme)
    assert ended.code == 0
    assert "arms: uniform, upside_down:power=0.5; 2 seeds" in ended.out


def test_a_comparison_ends_with_a_table_and_a_verdict(
    call: Call, tiny_npz: str, tmp_path: Path
) -> None:
    flags = small(tiny_npz, tmp_path / "out")
    ended = call(compare.main, *flags)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == ("note: 2 seeds cannot give a verdict, whatever comes out: give at least 6")
    assert lines[1] == "tiny: 94 training examples, 13 to 54 per class; 60 test examples"
    assert lines[2] == f"arms: uniform, balanced; 2 seeds; results: {tmp_path / 'out'}"
    assert lines[-1] == f"files: {tmp_path / 'out'}"
    assert "balanced accuracy" in ended.out
    verdict = next(line for line in lines if "balanced and uniform differ by" in line)
    assert call(compare.main, *flags, "--quiet") == (0, "", "")
    assert verdict.rstrip(".") in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.usefixtures("no_report")
def test_another_study_in_the_directory_is_named(call: Call, tiny_npz: str, tmp_path: Path) -> None:
    flags = small(tiny_npz, tmp_path / "out")
    assert call(compare.main, *flags, "--quiet").code == 0
    ended = call(compare.main, *flags, "--learning-rate", "0.1")
    assert (ended.code, ended.out) == (2, "")
    assert f"{tmp_path / 'out'}: the directory holds another study" in ended.err
    assert "learning_rate: 0.001, now 0.1" in ended.err


def test_the_default_directory_depends_on_settings_but_not_on_arms_seeds_and_places() -> None:
    def name(**changes: object) -> str:
        return directory_name(StudyConfig(**changes))  # type: ignore[arg-type]

    assert name().startswith("mnist5k-long_tailed-50-")
    assert name(num_seeds=3, arms=("focal",)) == name()
    assert name(train=TrainConfig(num_epochs=3)) != name()
    mine, moved, other = (
        name(train=TrainConfig(model=model)) for model in ("a/n.py:N", "n.py:N", "n.py:M")
    )
    assert mine == moved != other
    here, there = ((DataConfig(dataset=f"npz:{place}/x.npz"),) for place in ("a", "b"))
    assert name(data=here) == name(data=there) != name()
    several = (DataConfig(), DataConfig(imbalance="none"))
    assert name(data=several).startswith("sweep-")


def test_a_protocol_gives_the_training_settings_that_no_flag_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned: list[StudyConfig] = []

    class Planned(Exception):
        pass

    def plan(config: StudyConfig, options: object) -> None:
        planned.append(config)
        raise Planned

    monkeypatch.setattr("cwjax.study.plan.make_plan", plan)
    for flags in ([], ["--learning-rate=0.001", "--num-epochs", "20"], ["--warmup", "20"]):
        with pytest.raises(Planned):
            compare.main(["--protocol", "cifar_lt", *flags])
    default, changed, warm = (config.train for config in planned)
    assert default == CIFAR_LT
    assert warm == replace(CIFAR_LT, warmup=20.0)  # of 200 epochs
    assert changed == replace(CIFAR_LT, learning_rate=0.001, num_epochs=20)


MODEL = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, num_classes, *, rngs):
        self.layer = nnx.Linear(18 * 18, num_classes, rngs=rngs)

    def __call__(self, inputs):
        return self.layer(inputs.reshape(len(inputs), -1))
"""


@pytest.mark.usefixtures("no_report")
def test_a_directory_keeps_its_model(call: Call, tiny_npz: str, tmp_path: Path) -> None:
    file, moved, out = tmp_path / "net.py", tmp_path / "elsewhere" / "net.py", tmp_path / "out"
    file.write_text(MODEL)
    flags = [*small(tiny_npz, out), "--quiet", "--model"]
    for _ in range(2):
        assert call(compare.main, *flags, f"{file}:Net") == (0, "", "")
    moved.parent.mkdir()
    moved.write_text(MODEL)
    assert call(compare.main, *flags, f"{moved}:Net") == (0, "", "")
    moved.write_text(MODEL + "# changed\n")
    for model, message in (
        (f"{moved}:Net", "the file of the model net.py:Net has changed since the directory was"),
        ("linear", "model: net.py:Net, now linear"),
    ):
        ended = call(compare.main, *flags, model)
        assert (ended.code, ended.out) == (2, "")
        assert message in ended.err
        assert len(ended.err.splitlines()) == 1
    study = StudyDirectory(out).known_study()
    assert "--model DIRECTORY/net.py:Net" in command(study).text.replace(PLACEHOLDER, "DIRECTORY")


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_model_without_the_part_that_an_arm_needs(
    flags: list[str], refused: Refused, tiny_npz: str, tmp_path: Path
) -> None:
    file = tmp_path / "net.py"
    file.write_text(MODEL)
    error = refused(
        "--dataset", tiny_npz, "--imbalance-factor", "4", "--batch-size", "16",
        "--model", f"{file}:Net", "--arms", "uniform", "crt", "balanced", "tau_norm", *flags
    )  # fmt: skip
    assert "net.py:Net: crt, tau_norm need its head: give it features(inputs)" in error


def test_an_accelerator_that_is_not_there(tmp_path: Path) -> None:
    ended = script("--out", str(tmp_path / "out"), env={"JAX_PLATFORMS": "cuda"})
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: JAX_PLATFORMS=cuda: JAX finds no such device here")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_date_that_numpy_cannot_read(tmp_path: Path) -> None:
    ended = script("--out", str(tmp_path / "out"), env={"SOURCE_DATE_EPOCH": "abc"})
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: SOURCE_DATE_EPOCH is 'abc', not a whole number of seconds")


@pytest.mark.slow
def test_a_terminal_without_some_characters_and_a_closed_standard_error(
    tiny_npz: str, tmp_path: Path
) -> None:
    ended = script(
        *small(tiny_npz, tmp_path / "out"),
        env={"PYTHONIOENCODING": "ascii"},
        shell='"$@" 2>&-',
    )
    assert ended.returncode == 0
    assert "+-" in ended.stdout
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.slow
def test_a_reader_that_ends_early_ends_it_quietly_with_everything_saved(
    tiny_npz: str, tmp_path: Path
) -> None:
    flags = small(tiny_npz, tmp_path / "out")
    ended = script(*flags, shell='"$@" | head -n 5; exit "${PIPESTATUS[0]}"')
    assert ended.returncode == 128 + signal.SIGPIPE
    assert len(ended.stdout.splitlines()) == 5
    assert "error" not in ended.stderr
    assert "Exception" not in ended.stderr
    assert (tmp_path / "out" / "comparison.json").exists()
    assert len(list((tmp_path / "out").glob("runs/*/*"))) == 4
