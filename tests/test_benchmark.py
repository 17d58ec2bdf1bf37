"""The scripts that measure speed; that they run, not how fast anything is."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cwjax.cli import command_line
from cwjax.errors import ConfigError
from experiments import accelerator, benchmark, scaling
from experiments.cost_figure import cost_figure
from experiments.peers import WORKS, Repeat, Row
from experiments.peers import __main__ as peers
from experiments.peers.__main__ import load_work
from experiments.peers.process import Peer, measure_in_turns


def test_the_table_compares_with_the_fastest_and_with_the_ceiling() -> None:
    rows = [
        Row(
            name,
            start_seconds=1.0,
            compile_seconds=2.5,
            repeats=[
                Repeat(examples_per_second=rate * factor, peak_memory_mib=100)
                for factor in (1, 3, 1.1)
            ],
        )
        for name, rate in (("fast", 3000), ("slow", 1000))
    ]
    table = benchmark.throughput_table(rows, needed_flop=10_000_000, ceiling=66)
    cells = [list(column.cells) for column in table.columns]
    assert list(zip(*cells, strict=True)) == [
        ("fast", "3,300", "1.00x", "50%", "100", "1.0", "2.5"),
        ("slow", "1,100", "3.00x", "17%", "100", "1.0", "2.5"),
    ]


def test_an_unknown_peer_is_one_line() -> None:
    known = "no peer 'cwjax-0' of --work cnn: choose one of cwjax-N, flax-loop"
    with pytest.raises(ConfigError, match=known):
        measure_in_turns([Peer("cwjax-0", 56)], repeats=1, threads=1)


def test_operations_that_an_example_needs() -> None:
    """Of a dense network two products per layer, a third for the gradient of an inner input."""
    assert benchmark.needed_flop(WORKS["mlp-small"]) == 2 * (2 * 10 * 64 + 3 * 64 * 5)
    assert benchmark.needed_flop(WORKS["linear"]) == 4 * 768 * 100


def test_classes_of_a_dense_network_can_be_chosen() -> None:
    work = load_work(peers.Flags(name="cwjax-2", work="mlp", num_classes=3))
    assert work.network.num_classes == 3
    assert set(work.labels.tolist()) == {0, 1, 2}
    for flags in ({"work": "mlp", "num_classes": 1}, {"work": "cnn", "num_classes": 3}):
        with pytest.raises(ConfigError, match="--num-classes"):
            peers.Flags(name="cwjax-2", **flags)


@pytest.mark.slow
def test_peers_of_a_dense_network(tmp_path: Path) -> None:
    """One process, one for each core, and many runs at once learn the same examples."""
    peers = [Peer(name, 560, "mlp-small") for name in ("cwjax-2", "sklearn", "sklearn-per-core")]
    rows = measure_in_turns(peers, repeats=1, threads=1)
    assert [row.name for row in rows] == [peer.name for peer in peers]
    losses = [row.repeats[0].train_loss for row in rows]
    assert all(loss is not None and 0.5 < loss < 2.5 for loss in losses), losses
    assert all(row.repeats[0].examples_per_second > 0 for row in rows)


def test_scaling_flags() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        scaling.Flags(repeats=0)
    with pytest.raises(ConfigError, match=r"ends in \.svg"):
        scaling.Flags(plot=Path("cost.pdf"))


def test_a_mistake_of_the_script_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling", "--plot", "cost.pdf"])
    with pytest.raises(SystemExit, match="2"):
        command_line.run_main(scaling.main)
    assert capsys.readouterr().err == (
        "error: --plot is cost.pdf: give a name that ends in .svg (--help lists the flags)\n"
    )


def test_the_cost_figure_names_what_grows() -> None:
    svg = cost_figure({"runs at once": {1: [200.0], 64: [100.0]}, "training examples": {1008: [1]}})
    for text in ("runs at once", "training examples", "64", "1,008", "1 is 100 µs"):
        assert f">{text}<" in svg


@pytest.mark.slow
def test_scaling_measures_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "rows": replace(scaling.LADDERS["rows"], sizes=(56, 112)),
        "classes": replace(scaling.LADDERS["classes"], sizes=(2, 3)),
        "arms": replace(scaling.LADDERS["arms"], sizes=(2,)),
    }
    monkeypatch.setattr(scaling, "LADDERS", small)
    files = ["--json", str(tmp_path / "cost.json"), "--plot", str(tmp_path / "cost.svg")]
    flags = ["--ladders", *small, "--repeats", "1", "--threads", "1", *files]
    monkeypatch.setattr(sys, "argv", ["scaling", *flags])
    assert scaling.main() == 0
    rows = json.loads((tmp_path / "cost.json").read_text())["rows"]
    assert {name: list(found) for name, found in rows.items()} == {
        "rows": ["56", "112"],
        "classes": ["2", "3"],
        "arms": ["2"],
    }
    (repeat,) = rows["arms"]["2"]["repeats"]
    assert repeat["examples_per_second"] > 0
    assert repeat["peak_memory_mib"] > 100
    assert (tmp_path / "cost.svg").read_text().startswith("<svg")


@pytest.mark.exhaustive
def test_the_accelerators_pieces_run_without_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(accelerator.WORKS["mlp"], num_train=560)
    monkeypatch.setitem(accelerator.WORKS, "mlp", small)
    for piece in (["throughput", "--work=mlp"], ["convolutions"], ["matmul"]):
        flags = [*piece, "--runs", "1", "2", "--seconds=0.1", "--platform=cpu"]
        monkeypatch.setattr(sys, "argv", ["accelerator", *flags])
        assert accelerator.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("whole runs an hour" in line for line in lines) == 2
    assert sum("ms per run" in line for line in lines) == 8
    assert lines[-1].endswith("TFLOP/s")


def test_convolutions_of_every_form_are_the_same() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 7, 6, 3)).astype(np.float32)
    kernel = rng.standard_normal((2, 3, 3, 3, 4)).astype(np.float32)
    first, *others = (form(x, kernel) for form in accelerator.convolution_forms().values())
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-5)
