"""Every study of the findings: its name and the commands that train it."""

from __future__ import annotations

from experiments.findings.tables import TABLES

_TABLES = " ".join(f"table:results/findings/data/{name}.csv" for name in TABLES)
_SPLIT_ANEW = "--label-column label --imbalance none --test-split per-seed"

_CIFAR10_LT = (
    "--dataset folder:results/findings/data/cifar10 --imbalance long_tailed "
    "--imbalance-factor 100 --num-epochs 20"
)


def _tables(model: str, num_seeds: int, flags: str = "") -> tuple[str, ...]:
    """Five tables, judged together; every seed draws its own test split."""
    out = f"results/findings/tables-{model.rpartition(':')[2]}"
    return (
        f"sweep --dataset {_TABLES} {_SPLIT_ANEW} --model {model}{flags} --num-seeds {num_seeds} "
        f"--arms uniform inverse_power balanced --out {out}",
        f"report {out} --calibrate",
    )


def _fading(num_epochs: int, variant: str) -> tuple[str, ...]:
    out = f"results/findings/{fading_name(num_epochs, variant)}"
    flags = f"--num-epochs {num_epochs} --num-seeds 10 {FADING_VARIANTS[variant]}".rstrip()
    return (f"compare {flags} --out {out}",)


def fading_name(num_epochs: int, variant: str) -> str:
    """The study of so many epochs, of the default network or a variant of its training."""
    return f"fading-{num_epochs}" + (f"-{variant}" if variant else "")


def _long_tailed(dataset: str, factor: int) -> tuple[str, ...]:
    """The standard arms on a long-tailed training split; arms decided at ten seeds stop there."""
    out = f"results/findings/{dataset.removesuffix('_mnist')}-lt-{factor}"
    return (
        f"compare --dataset {dataset} --imbalance long_tailed --imbalance-factor {factor} "
        f"--arms standard --max-seeds 15 --looks 10 15 --out {out}",
    )


FADING_EPOCHS = (6, 12, 25, 50, 100)
"""The default study has 12."""

FADING_VARIANTS = {
    "": "",
    "no-dropout": "--model cnn:dropout=0",
    "weight-decay": "--weight-decay 0.005",
}
"""What else a study of the fading effect of weights changes, by name: its flags."""

STUDIES: dict[str, tuple[str, ...]] = {
    "notebook": (
        "compare --dataset mnist --imbalance none --protocol notebook --num-epochs 10 "
        "--metric accuracy --smallest-effect 0.001 --num-seeds 30 --null-control "
        "--out results/findings/notebook",
    ),
    "schemes": ("compare --arms all --num-seeds 10 --out results/findings/schemes",),
    "short-stages": (
        "compare --arms uniform crt:min_steps=0 lws:min_steps=0 weight_balancing:min_steps=0 "
        "--num-seeds 10 --out results/findings/short-stages",
    ),
    "tuned": (
        "compare --tune --arms uniform balanced focal logit_adjusted --num-seeds 10 "
        "--out results/findings/tuned",
    ),
    **{
        fading_name(epochs, variant): _fading(epochs, variant)
        for variant in FADING_VARIANTS
        for epochs in FADING_EPOCHS
    },
    "mnist-lt-100": _long_tailed("mnist", 100),
    "mnist-lt-100-tuned": (
        "compare --dataset mnist --imbalance long_tailed --imbalance-factor 100 --tune "
        "--arms uniform balanced posthoc_logit_adjusted --num-seeds 10 "
        "--out results/findings/mnist-lt-100-tuned",
    ),
    "mnist-lt-10": _long_tailed("mnist", 10),
    "fashion-lt-100": _long_tailed("fashion_mnist", 100),
    "fashion-lt-10": _long_tailed("fashion_mnist", 10),
    "cifar10-lt-100": (
        f"compare {_CIFAR10_LT} --num-seeds 10 --arms uniform balanced balanced:drw=0.8 "
        "class_balanced_sampling posthoc_logit_adjusted --out results/findings/cifar10-lt-100",
    ),
    "cifar10-lt-100-short-steps": (
        f"compare {_CIFAR10_LT} --learning-rate 0.0003 --num-seeds 6 --arms uniform balanced "
        "--out results/findings/cifar10-lt-100-short-steps",
    ),
    "tables-mlp": _tables("mlp", 20, " --num-epochs 60"),
    "tables-hist_gradient_boosting": _tables("estimator:hist_gradient_boosting", 10),
    "tables-logistic_regression": _tables("estimator:logistic_regression", 20),
    "embeddings": (
        "compare --dataset features:results/findings/data/clinc150_imbalanced.npz "
        "--imbalance none --model linear --num-epochs 60 --num-seeds 10 "
        "--arms uniform inverse_power balanced logit_adjusted --out results/findings/embeddings",
    ),
    "embeddings-long-tailed": (
        "compare --dataset features:results/findings/data/clinc150.npz "
        "--imbalance long_tailed --imbalance-factor 50 --model linear --num-epochs 60 "
        "--num-seeds 10 --arms uniform inverse_power balanced logit_adjusted "
        "--out results/findings/embeddings-long-tailed",
    ),
}
"""Their data: `experiments.findings.tables` and `.embeddings` write it to results/findings/data;
cifar10 there is CIFAR-10 as a directory of JPEG files per class, below train and test."""
