"""What `--help` prints: true, whole, and at once."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from calls import Call

from cwjax.cli import compare, main, report, sweep
from cwjax.cli.help import Flag, flags_of, help_text
from cwjax.config import RuntimeConfig, TrainConfig
from cwjax.data.sources import SOURCES
from cwjax.models.registry import MODELS
from cwjax.training.optim import OPTIMIZERS

COMMANDS = {"compare": compare, "sweep": sweep, "report": report}


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_explained_and_lines_fit(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    module = COMMANDS[name]
    page = help_text(module.Flags, module.__doc__ or "", name)
    examples = page.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) >= 3  # each on a line of its own
    usage = next(line for line in page.splitlines() if line.startswith("Usage: "))
    for line in set(page.splitlines()) - {*examples, usage}:  # commands stay whole
        assert len(line) <= min(width, 100)
    for flag in flags_of(module.Flags):
        assert flag.about
        assert re.search(rf"^  {re.escape(flag.name)}( |$)", page, re.MULTILINE)
    assert "default: None" not in page
    assert "default: True" not in page


def test_data_come_first_and_lists_come_from_the_registries() -> None:
    page = help_text(compare.Flags, compare.__doc__ or "", "compare")
    assert page.index("  --dataset") < page.index("  --arms") < page.index("  --num-epochs")
    for registry in (SOURCES, MODELS, OPTIMIZERS):
        for name in registry:
            assert re.search(rf"^ +{name}(:| )", page, re.MULTILINE)


def test_defaults_are_the_true_ones_and_stand_once() -> None:
    page = " ".join(help_text(compare.Flags, compare.__doc__ or "", "compare").split())
    for field in dataclasses.fields(TrainConfig):
        name = "--" + field.name.replace("_", "-")
        about = page.partition(f" {name} ")[2].partition(" --")[0]
        assert re.findall(r"\[default: ([^]]*)\]", about) == [str(field.default)]
    assert "--no-compile-cache Turn off what is on otherwise: keep compiled" in page
    assert RuntimeConfig().compile_cache
    assert "[default: uniform balanced]" in page


def test_a_tuple_a_choice_and_a_positional_argument() -> None:
    flags = {flag.name: flag for flag in flags_of(report.Flags)}
    assert flags["DIRECTORIES"] == Flag(
        "DIRECTORIES", "[DIRECTORIES ...]", "Directories of results."
    )
    assert flags["--figures"].value == "svg|pdf"
    assert {flag.name: flag.value for flag in flags_of(sweep.Flags)}[
        "--imbalance-factor"
    ] == "X ..."


def test_help_needs_no_slow_library_and_names_the_command_as_it_was_started() -> None:
    code = (
        "import sys; sys.argv = ['/usr/bin/cwjax', 'compare', '--help']\n"
        "from cwjax.cli.main import main\n"
        "try: main()\n"
        "finally:\n"
        "    slow = {'jax', 'numpy', 'pandas', 'scipy', 'rich', 'tyro'} & set(sys.modules)\n"
        "    assert not slow, slow"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "Usage: cwjax compare [FLAG ...]\n" in ended.stdout
    assert "\n  cwjax compare --arms uniform" in ended.stdout


def test_from_a_checkout_the_examples_are_commands_that_run_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/experiments/compare.py"])
    page = help_text(compare.Flags, compare.__doc__ or "", "compare")
    assert "Usage: python -m experiments.compare [FLAG ...]" in page
    assert "\n  python -m experiments.compare --dataset mnist" in page


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        ([], 0, "Usage: cwjax COMMAND", ""),
        (["--help"], 0, "\n  sweep    Compares arms over many data sets", ""),
        (["--version"], 0, "cwjax ", ""),
        (
            ["comapre"],
            2,
            "",
            "error: no command 'comapre' (did you mean 'compare'?): choose one of",
        ),
        (["sweep", "-h"], 0, "Usage: cwjax sweep", ""),
        (["compare", "--epochs", "5"], 2, "", "did you mean '--num-epochs'"),
        (["report"], 2, "", "nothing to render"),
    ],
)
def test_the_installed_command(
    arguments: list[str], code: int, out: str, err: str, call: Call
) -> None:
    ended = call(main._main, *arguments)
    assert ended.code == code
    assert out in ended.out
    assert err in ended.err
    assert bool(ended.out) == (code == 0)
