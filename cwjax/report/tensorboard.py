"""Runs as TensorBoard shows them: one event file per run, made from its stored record.

The files are derived like the other tables: no clock and no host name is in them, and the same run
gives the same bytes. Needs the extra `tensorboard` (the package tensorboardX, not TensorBoard).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from cwjax.errors import ConfigError
from cwjax.store.directory import StudyDirectory
from cwjax.store.schema import RunRecord

FOLDER = "tensorboard"

_TAGS = {
    "train_loss": "train/loss",
    "val_loss": "validation/loss",
    "val_accuracy": "validation/accuracy",
    "val_balanced_accuracy": "validation/balanced_accuracy",
}


def require_tensorboard() -> None:
    """Says at once, rather than after the first run, that the package is missing.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--tensorboard needs the package tensorboardX: pip install -e '.[tensorboard]'"
        ) from error


def write_run(record: RunRecord, directory: Path) -> Path:
    """Writes the event file of one run, whole or not at all.

    Args:
        record: the run, as it is stored.
        directory: of the study; the file goes to `tensorboard/<cell>/<arm>-<seed>/` in it.

    Returns:
        Its path.
    """
    study, key = StudyDirectory(directory), record.key
    name = f"{FOLDER}/{key.cell}/{study.run_path(key).stem}/events.out.tfevents.0"
    study.write_bytes(name, event_file(record))
    return directory / name


def event_file(record: RunRecord) -> bytes:
    """History by epoch (from 1) and, at the last epoch, the test scores that are defined."""
    from tensorboardX.proto.event_pb2 import Event as Proto
    from tensorboardX.summary import scalar

    protos = [Proto(wall_time=0, file_version="brain.Event:2")]
    num_epochs = 0
    for column, values in record.history.items():
        num_epochs = len(values)
        for step, value in enumerate(values.tolist(), start=1):
            protos.append(Proto(wall_time=step, step=step, summary=scalar(_TAGS[column], value)))
    for metric, value in record.scores.items():
        if np.isfinite(value):
            summary = scalar(f"test/{metric}", value)
            protos.append(Proto(wall_time=num_epochs, step=num_epochs, summary=summary))
    return b"".join(_framed(proto.SerializeToString()) for proto in protos)


def _framed(content: bytes) -> bytes:
    """One record of the TFRecord format: length, its checksum, content, its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(content))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
    return length + checksums[0] + content + checksums[1]
