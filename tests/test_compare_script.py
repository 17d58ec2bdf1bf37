"""`python -m experiments.compare` as a user meets it: real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def compare(*flags: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments.compare", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


WRONG = {
    "unknown data set": (["--dataset", "cifar"], "--dataset is 'cifar'"),
    "unknown arm": (["--arms", "uniform", "balancd"], "did you mean 'balanced'"),
    "unknown setting": (["--arms", "focal:beta=1"], "no setting 'beta'"),
    "unknown flag": (["--epochs", "3"], "--epochs"),
    "unknown profile": (["--imbalance", "longtailed"], "longtailed"),
    "factor": (["--imbalance-factor", "0.5"], "--imbalance-factor is 0.5"),
    "epochs": (["--num-epochs", "0"], "--num-epochs is 0"),
    "not a number": (["--num-epochs", "ten"], "--num-epochs"),
    "batch": (["--batch-size", "100000"], "--batch-size is 100000"),
    "learning rate": (["--learning-rate", "nan"], "--learning-rate is nan"),
    "repeated seeds": (["--seeds", "1", "2", "1"], "--seeds repeats [1]"),
    "negative seed": (["--seeds", "-1"], "--seeds has -1"),
    "protocol": (["--protocol", "notebook"], "give --imbalance none"),
    "missing file": (["--dataset", "npz:/nowhere.npz"], "nowhere.npz"),
    "no accelerator": (["--platform", "gpu"], "--platform gpu"),
    "precision": (["--precision", "bf16"], "--precision bf16 is for accelerators"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_gets_one_line_and_exit_code_2(case: str, tmp_path: Path) -> None:
    flags, message = WRONG[case]
    result = compare(*flags, "--out", str(tmp_path / "out"))
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert not (tmp_path / "out").exists()


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
