"""What README and docs show works as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cwjax.arms.arm import SCHEMES, ArmContext
from cwjax.arms.grammar import arm_row, load_schemes, parse_arms
from cwjax.cli import sweep
from cwjax.data.sources import ReadOptions, load_dataset

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code(page: str, begins: str, language: str = "python") -> str:
    """The block of a page that begins with these words."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    return next(block for block in blocks if block.startswith(begins))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_ways_out_of_frameworks_are_python() -> None:
    text = (ROOT / "docs" / "frameworks.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        compile(block, "frameworks.md", "exec")


def test_features_of_a_keras_model_become_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block as it stands, with a stand-in for Keras."""
    monkeypatch.chdir(tmp_path)
    layers = [SimpleNamespace(output=number) for number in range(3)]
    models = SimpleNamespace(load_model=lambda _: SimpleNamespace(inputs=0, layers=layers))

    def before_last(_: int, output: int) -> SimpleNamespace:
        assert output == 1
        return SimpleNamespace(predict=lambda images: images.reshape(len(images), -1)[:, :3])

    keras = SimpleNamespace(models=models, Model=before_last)
    monkeypatch.setitem(sys.modules, "keras", keras)
    labels = np.array(["a", "b"]).repeat(10)
    np.save("images.npy", np.random.default_rng(0).random((20, 2, 2, 1)))
    np.save("labels.npy", labels)
    exec(compile(code("docs/frameworks.md", "import keras"), "frameworks.md", "exec"), {})
    dataset = load_dataset("features:embeddings.npz", ReadOptions())
    assert dataset.class_names == ("a", "b")
    assert dataset.input_shape == (3,)


def test_a_scheme_of_your_own(tmp_path: Path) -> None:
    file = tmp_path / "my_schemes.py"
    file.write_text(code("docs/how-to-add.md", "# my_schemes.py"))
    try:
        load_schemes(file)
        arms = parse_arms(["enet:offset=1.02,1.1"])
        assert [str(arm) for arm in arms] == ["enet", "enet:offset=1.1"]
        counts = np.array([90, 9, 1])
        context = ArmContext(counts, counts, ("a", "b", "c"), num_epochs=5)
        weights = arm_row(arms[0], context).class_weights
        expected = 1 / np.log(1.02 + counts / 100)
        np.testing.assert_allclose(weights, expected * 100 / (counts * expected).sum(), rtol=1e-6)
    finally:
        SCHEMES.pop("enet", None)


def test_the_spec_file_is_a_command_line(tmp_path: Path) -> None:
    spec = tmp_path / "sweep.toml"
    spec.write_text(code("README.md", "dataset", "toml"))
    words = sweep.with_spec(["--spec", str(spec)])
    assert words[:3] == ["--dataset", "mnist", "fashion_mnist"]
    assert set(tomllib.loads(spec.read_text())) == {
        word[2:].replace("-", "_") for word in words if word.startswith("--") and word != "--spec"
    }


@pytest.mark.slow  # the type checker starts cold
def test_the_python_example_runs_and_has_no_type_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = code("README.md", "import cwjax\nfrom sklearn")
    (tmp_path / "example.py").write_text(example)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "example.py"],
        cwd=tmp_path, env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "example.py", "exec"), {})
    assert "balanced and uniform" in capsys.readouterr().out
    assert (tmp_path / "wine.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ROOT / "docs" / "tutorial.ipynb"
    assert file.stat().st_size < 50_000  # its outputs are small
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in json.loads(file.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), file.name, "exec"), names)
    assert (tmp_path / "digits.html").exists()
