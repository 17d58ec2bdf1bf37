"""scikit-learn: `MLPClassifier` with Adam and batches of 56, and its `fit`."""

from __future__ import annotations

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from experiments.peers import LEARNING_RATE, Training, Work


def prepare(work: Work) -> Training:
    """The classifier; each `fit` begins anew, as its users have it."""
    threadpool_limits(limits=work.num_threads)

    def fit(num_examples: int, num_epochs: int) -> float:
        model = MLPClassifier(
            work.network.hidden,
            alpha=0,
            batch_size=work.batch_size,
            learning_rate_init=LEARNING_RATE,
            max_iter=num_epochs,
            n_iter_no_change=num_epochs + 1,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # as many epochs as were asked for
            model.fit(work.inputs[:num_examples], work.labels[:num_examples])
        return float(model.loss_)

    return Training(
        lambda: fit(work.batch_size, 1), lambda num_epochs: fit(len(work.labels), num_epochs)
    )
