"""Every study of the findings: its name and the commands that train it."""

from __future__ import annotations

_TABLES = " ".join(
    f"table:results/findings/data/{name}.csv"
    for name in ("page-blocks", "kr-vs-k", "satimage", "car", "abalone19")
)
_SPLIT_ANEW = "--label-column label --imbalance none --test-split per-seed"


def _tables(model: str, more: str = "") -> tuple[str, ...]:
    out = f"results/findings/tables-{model.rpartition(':')[2]}"
    return (
        f"sweep --dataset {_TABLES} {_SPLIT_ANEW} --model {model} --num-seeds 20 "
        f"--arms uniform inverse_power balanced{more} --out {out}",
        f"report {out} --calibrate",
    )


def _fading(num_epochs: int, more: str = "") -> tuple[str, ...]:
    name = f"fading-{num_epochs}" + ("-plain" if more else "")
    return (
        f"compare --num-epochs {num_epochs}{more} --num-seeds 20 --out results/findings/{name}",
    )


FADING_EPOCHS = (1, 2, 5, 10, 20, 50, 100)

STUDIES: dict[str, tuple[str, ...]] = {
    "schemes": ("compare --arms all --num-seeds 10 --out results/findings/schemes",),
    "tuned": (
        "compare --tune --arms uniform balanced focal logit_adjusted --num-seeds 10 "
        "--out results/findings/tuned",
    ),
    "tables-mlp": _tables("mlp"),
    "tables-hist_gradient_boosting": _tables("estimator:hist_gradient_boosting"),
    "tables-logistic_regression": _tables("estimator:logistic_regression"),
}
