"""A metric: the median over classes of their recall."""

from __future__ import annotations

import numpy as np

from cwjax.analysis.evaluation import Evaluation, FloatArray
from cwjax.analysis.metrics import Metric

METRIC = Metric("median_recall", "median recall")


def formula(evaluation: Evaluation) -> FloatArray:
    return np.median(evaluation.over_present(evaluation.recall), axis=-1)
