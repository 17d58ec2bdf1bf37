"""A directory's files with the wrong contents: one line that names file and field, never less."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_runs import CELL, SWEEP, SWEEP_EFFECTS, write_study

from cwjax.analysis.metrics import METRICS
from cwjax.errors import ConfigError
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import SCHEMA_VERSION
from cwjax.study.derive import compare
from cwjax.training.runs import RunKey

DELETED = "deleted"
DEEP = 200_000


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms, two seeds."""
    path = tmp_path_factory.mktemp("sound") / "study"
    write_study(path, {"uniform": 0.0, "balanced": 0.5}, 2)
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "study")


def refusal(path: Path) -> str:
    """The one line with which a directory is refused."""
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError) as caught:
        compare(StudyDirectory(path))
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    return message


def test_the_sound_directory_is_read(path: Path) -> None:
    assert len(compare(StudyDirectory(path)).comparisons) == 1


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"{}",
        b"{",
        b"\xff\xfe",
        b'{"schema_version": [1]}',
        b'{"schema_version": "' + SCHEMA_VERSION.encode() + b'"}',
        b'{"schema_version": "' + SCHEMA_VERSION.encode() + b'", "x": ' + b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_study_json_that_is_none(path: Path, content: bytes) -> None:
    (path / "study.json").write_bytes(content)
    assert refusal(path).startswith("study.json is damaged (")


@pytest.mark.parametrize("version", ["2.dev0", "3", 1])
def test_another_schema_version(path: Path, version: object) -> None:
    change_study(path, ["schema_version"], version)
    assert refusal(path) == (
        f"study.json has schema version {version}, this cwjax reads {SCHEMA_VERSION}: use the "
        "cwjax that wrote it, or give another --out"
    )


def change_study(path: Path, place: list[Any], value: object) -> None:
    """Sets, or deletes, what is at a place of `study.json`."""
    content = json.loads((path / "study.json").read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if value is DELETED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    (path / "study.json").write_text(json.dumps(content))


OF_CELL = ["cells", CELL]


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (["train"], DELETED, "missing required field `train`"),
        (["train", "num_epochs"], "many", "$.train.num_epochs"),
        (["train", "num_epochs"], 0, "$.train"),
        (["train", "reduction"], "sum", "$.train"),
        (["analysis"], None, "$.analysis"),
        (["analysis", "confidence"], 1, "$.analysis"),
        (["baseline"], "balanced", "baseline"),
        (["baseline"], [], "$.baseline"),
        (["arms"], [], "baseline"),
        (["arms", 1, "name"], "uniform", "arms"),
        (["arms", 1, "name"], "null_control", "compare"),
        (["arms", 1, "kind"], "magic", "$.arms[1].kind"),
        (["arms", 0], {}, "$.arms[0]"),
        (["arms", 1, "values"], {"drw": "x"}, "$.arms[1].values[...]"),
        (["arms", 1, "weights"], {"weights": None}, "$.arms[1].weights[...]"),
        (["seeds"], [], "seeds"),
        (["seeds"], [0, 0], "seeds"),
        (["seeds"], [0, -1], "seeds"),
        (["seeds"], [0, 2**32], "seeds"),
        (["seeds"], [0, 0.5], "$.seeds[1]"),
        (["seeds"], {"0": 1}, "$.seeds"),
        (["seeds"], [0, 1, 2], f"cells.'{CELL}'.class_counts"),
        (["null_control"], "yes", "$.null_control"),
        (["cells"], {}, "cells"),
        (["cells"], [], "$.cells"),
        ([*OF_CELL], None, "$.cells[...]"),
        ([*OF_CELL, "data", "imbalance_factor"], 0.5, "$.cells[...].data"),
        ([*OF_CELL, "data", "imbalance_factor"], 7, f"cells.'{CELL}': its data have another name"),
        ([*OF_CELL, "data", "dataset"], "npz:\x1b.npz", "$.cells[...].data"),
        ([*OF_CELL, "dataset", "class_names"], ["a", "b"], f"cells.'{CELL}'.class_counts"),
        ([*OF_CELL, "dataset", "class_names"], ["a", "b", "a"], f"cells.'{CELL}'.dataset"),
        ([*OF_CELL, "dataset", "class_names"], [], f"cells.'{CELL}'.dataset"),
        ([*OF_CELL, "dataset", "num_test"], 0, f"cells.'{CELL}'.dataset"),
        ([*OF_CELL, "dataset", "num_test"], 59, "is of another study"),
        ([*OF_CELL, "dataset", "fingerprint"], "../../x", "is missing"),
        ([*OF_CELL, "dataset", "input_shape"], [6, -5, 1], f"cells.'{CELL}'.dataset"),
        ([*OF_CELL, "class_counts", "0"], [1, 2], f"cells.'{CELL}'.class_counts"),
        ([*OF_CELL, "class_counts", "0"], [1, 2, 3], "is of another study"),
        ([*OF_CELL, "class_counts", "0"], DELETED, f"cells.'{CELL}'.class_counts"),
        ([*OF_CELL, "class_counts", "0"], [100, 20, -4], f"cells.'{CELL}'.class_counts"),
        ([*OF_CELL, "equal_arms"], {"focal": "uniform"}, f"cells.'{CELL}'.equal_arms"),
        ([*OF_CELL, "equal_arms"], ["balanced"], "$.cells[...].equal_arms"),
        ([*OF_CELL, "width"], 0, f"cells.'{CELL}'.width"),
        ([*OF_CELL, "width"], 1.5, "$.cells[...].width"),
        (["environment", "cpu_threads"], "4", "$.environment.cpu_threads"),
        (["environment"], DELETED, "missing required field `environment`"),
        (["failures"], [{"run": None, "reason": "x"}], "$.failures[0].run"),
        (
            ["failures"],
            [{"run": {"cell": "x", "arm": "uniform", "seed": 0}, "reason": "y"}],
            "failures: one is of no run of this study",
        ),
        (["code"], "x", "$.code"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_study_json_of_another_shape(
    path: Path, place: list[Any], value: object, field: str
) -> None:
    if field == "compare":  # two arms of one name
        change_study(path, ["null_control"], True)
        field = "arms"
    change_study(path, place, value)
    message = refusal(path)
    assert field in message
    if not message.startswith(("balanced-0", "uniform-0", "examples/")):
        assert message.startswith("study.json is damaged (")


def test_a_cell_is_no_path_out_of_the_directory(path: Path) -> None:
    content = json.loads((path / "study.json").read_text())
    content["cells"] = {"../../elsewhere": content["cells"][CELL]}
    (path / "study.json").write_text(json.dumps(content))
    message = "study.json is damaged (cells.'../../elsewhere': its data have another name)"
    assert refusal(path) == message


def test_fields_that_are_not_known_are_left_alone(path: Path) -> None:
    """Of a newer cwjax whose schema is the same."""
    change_study(path, ["more"], {"a": [1]})
    assert compare(StudyDirectory(path)).baseline == "uniform"


def run_file(path: Path) -> Path:
    return path / "runs" / CELL / "uniform-0.npz"


def change_run(path: Path, **changes: object) -> None:
    """Sets, or deletes, arrays of a run's file."""
    with np.load(run_file(path)) as archive:
        arrays: dict[str, Any] = dict(archive)
    for name, value in changes.items():
        name = name.replace("__", "/")
        arrays = {key: array for key, array in arrays.items() if key != name}
        if value is not DELETED:
            arrays[name] = value
    np.savez(run_file(path), allow_pickle=True, **arrays)


def change_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with np.load(run_file(path)) as archive:
        header = json.loads(archive["header"].item())
    change(header)
    change_run(path, header=np.array(json.dumps(header)))


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"header": DELETED}, "it has no header"),
        ({"header": np.array(["{}", "{}"])}, "it has no header"),
        ({"header": np.array(3)}, "Expected `object`, got `int`"),
        ({"header": np.array("[" * DEEP)}, "Expected `object`, got `array`"),
        ({"header": np.array('{"x": ' + "[" * DEEP)}, "RecursionError"),
        ({"header": np.array({}, object)}, "allow_pickle"),
        ({"test_logits": DELETED}, "it has no test_logits"),
        ({"test_logits": np.zeros((60, 2), np.float32)}, "test_logits: it is float32 (60, 2)"),
        ({"test_logits": np.zeros((3, 3), np.float32)}, "test logits (3, 3), expected"),
        (
            {"test_logits": np.full((60, 3), np.nan, np.float32)},
            "test_logits: not finite, although",
        ),
        ({"test_logits": np.zeros((60, 3), "m8[s]")}, "test_logits: it is timedelta64[s] (60, 3)"),
        ({"test_logits": np.zeros((60, 3), "U1")}, "test_logits: it is <U1 (60, 3)"),
        ({"validation_logits": np.zeros(3, np.float32)}, "validation_logits: it is float32 (3,)"),
        ({"confusion_matrix": np.zeros((3, 2), int)}, "confusion_matrix: it is int64 (3, 2)"),
        ({"class_counts": np.array(3)}, "class_counts: it is int64 ()"),
        ({"class_counts": np.array([1, 2, 3])}, "is of another study: it has [1, 2, 3] training"),
        ({"class_weights": np.ones(4, np.float32)}, "class_weights: it is float32 (4,)"),
        ({"head_kernel": np.ones((3, 2), np.float32)}, "head_kernel: it is float32 (3, 2)"),
        ({"head_bias": np.ones(2, np.float32)}, "head_bias: it is float32 (2,)"),
        ({"class_scores__recall": np.ones(4)}, "class_scores/recall: it is float64 (4,)"),
        ({"class_scores__recall": DELETED}, "class_scores: other columns"),
        ({"class_scores__more": np.ones(3)}, "class_scores: other columns"),
        ({"history__train_loss": np.ones(9)}, "history/"),
        ({"history__train_loss": DELETED}, "history: it has"),
        ({"history__train_loss": np.ones((3, 2))}, "history/"),
        ({"history__more": np.ones(3)}, "history: it has"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_runs_with_arrays_of_another_shape(path: Path, changes: dict[str, Any], field: str) -> None:
    change_run(path, **changes)
    message = refusal(path)
    assert "uniform-0.npz" in message
    assert field in message
    assert message.endswith(("remove it to train the run again", "to train the run again"))


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda header: header.update(status="fine"), "$.status"),
        (lambda header: header.pop("status"), "missing required field `status`"),
        (lambda header: header.update(scores=[]), "$.scores"),
        (lambda header: header.update(scores={}), "header.scores: it has no accuracy"),
        (lambda header: header["scores"].pop("ece"), "header.scores: it has no ece"),
        (lambda header: header["scores"].update(ece="x"), "$.scores[...]"),
        (lambda header: header.update(chosen=None), "$.chosen"),
        (lambda header: header.update(key=["a", "b", 1]), "$.key"),
        (lambda header: header["key"].update(seed=1), "holds uniform seed 1 of"),
        (lambda header: header["key"].update(cell="other"), "holds uniform seed 0 of other"),
        (lambda header: header.update(schema_version="1"), "has schema version 1"),
        (lambda header: header.clear(), "missing required field `schema_version`"),
    ],
)
def test_runs_with_headers_of_another_shape(
    path: Path, change: Callable[[dict[str, Any]], object], field: str
) -> None:
    change_header(path, change)
    message = refusal(path)
    assert f"runs/{CELL}/uniform-0.npz" in message
    assert field in message


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04",
        npy(np.ones(3)),
        zip_of(header=b"{}"),
        zip_of(header__npy=b"{}"),
        zip_of(header__npy=b"\x93NUMPY\x01\x00\xff\xff"),
        zip_of(header__npy=npy(np.array("{}"))[:-1]),
        zip_of(),
    ],
    ids=["cut", "npy", "no npy", "no type", "header cut", "text cut", "empty"],
)
def test_runs_that_are_no_archives_of_arrays(path: Path, content: bytes) -> None:
    run_file(path).write_bytes(content)
    assert f"runs/{CELL}/uniform-0.npz is damaged (" in refusal(path)


def test_one_damaged_cell_of_several_is_named(tmp_path: Path) -> None:
    write_study(tmp_path, SWEEP_EFFECTS, 2, data=SWEEP)
    directory = StudyDirectory(tmp_path)
    cell = SWEEP[1].name()
    directory.run_path(RunKey(cell, "focal", 1)).write_bytes(b"half")
    assert f"runs/{cell}/focal-1.npz is damaged" in refusal(tmp_path)


def test_scores_that_are_null_are_undefined_and_not_0(path: Path) -> None:
    change_header(path, lambda header: header["scores"].update(dict.fromkeys(METRICS)))
    assert refusal(path) == (
        "balanced accuracy is undefined for uniform seed 0: choose another primary metric"
    )
