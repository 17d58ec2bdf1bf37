"""`python -m experiments.compare` as a user meets it: real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def compare(*flags: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments.compare", *flags]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}  # a GPU, if there is one, is not for these
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
    )


WRONG = [
    pytest.param(["--dataset", "cifar"], "--dataset is 'cifar'", id="unknown data set"),
    pytest.param(["--arms", "uniform", "balancd"], "did you mean 'balanced'", id="unknown arm"),
    pytest.param(["--arms", "focal:beta=1"], "no setting 'beta'", id="unknown setting"),
    pytest.param(["--epochs", "3"], "--epochs", id="unknown flag"),
    pytest.param(["--imbalance", "longtailed"], "longtailed", id="unknown profile"),
    pytest.param(
        ["--imbalance-factor", "0.5"],
        "--imbalance-factor is 0.5",
        id="factor",
        marks=pytest.mark.fault(47),
    ),
    pytest.param(
        ["--num-epochs", "0"], "--num-epochs is 0", id="epochs", marks=pytest.mark.fault(47)
    ),
    pytest.param(["--num-epochs", "ten"], "--num-epochs", id="not a number"),
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
    pytest.param(
        ["--seeds", "1", "2", "1"],
        "--seeds repeats [1]",
        id="repeated seeds",
        marks=pytest.mark.fault(48),
    ),
    pytest.param(
        ["--seeds", "-1"], "--seeds has -1", id="negative seed", marks=pytest.mark.fault(49)
    ),
    pytest.param(["--protocol", "notebook"], "give --imbalance none", id="protocol"),
    pytest.param(["--dataset", "npz:/nowhere.npz"], "nowhere.npz", id="missing file"),
    pytest.param(
        ["--platform", "gpu"], "--platform gpu", id="no accelerator", marks=pytest.mark.fault(69)
    ),
    pytest.param(["--precision", "bf16"], "--precision bf16 is for accelerators", id="precision"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG)
def test_a_mistake_gets_one_line_and_exit_code_2(
    flags: list[str], message: str, tmp_path: Path
) -> None:
    result = compare(*flags, "--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.fault(11)
def test_an_output_path_that_is_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    result = compare("--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert "is a file: give a directory" in result.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_checking_settings_imports_no_jax() -> None:
    code = (
        "import sys; from cwjax.config import ExperimentConfig; ExperimentConfig();"
        "import cwjax, experiments.compare; assert 'jax' not in sys.modules, 'jax was imported'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_arms_are_listed() -> None:
    result = compare("--list-arms")
    assert result.returncode == 0
    for name in ("uniform", "balanced", "ldam", "crt", "tau_norm", "Menon"):
        assert name in result.stdout


def test_a_comparison_ends_with_a_table_and_a_verdict(tiny_npz: str, tmp_path: Path) -> None:
    flags = ["--dataset", tiny_npz, "--imbalance-factor", "4", "--num-seeds", "2"]
    flags += ["--num-epochs", "2", "--batch-size", "16", "--out", str(tmp_path / "out")]
    result = compare(*flags)
    assert result.returncode == 0, result.stderr
    assert "2 seeds cannot give a verdict" in result.stdout
    assert "balanced accuracy" in result.stdout
    verdict = result.stdout.splitlines()[-2]
    assert "uniform" in verdict
    assert "balanced" in verdict
    quiet = compare(*flags, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert verdict.rstrip(".") in (tmp_path / "out" / "report.md").read_text()
