"""What `--help` prints, made from a dataclass of flags: no NumPy, JAX or tyro, so it comes at once.

The text below each flag is the docstring of its field, the heading above a group of flags the
first sentence of their dataclass, and lists of names come from the registries.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cwjax.arms.settings import first_line, settings_of
from cwjax.data.sources import SOURCES
from cwjax.models.estimators import ESTIMATORS, PREFIX
from cwjax.models.registry import MODELS
from cwjax.training.augment import AUGMENTATIONS
from cwjax.training.optim import OPTIMIZERS, SCHEDULES

INDENT = 26
"""Columns of a flag's name and value, left of its text."""

_NO_BREAK = "\N{NO-BREAK SPACE}"

_VALUES = {int: "N", float: "X", str: "NAME", Path: "PATH"}


@dataclass(frozen=True)
class Flag:
    """One flag, or one positional argument.

    Attributes:
        name: as it is typed, e.g. `--num-seeds`; of a positional argument in capitals.
        value: stands for what follows it; empty for a switch.
        about: what it does, and its default.
        lines: a table that stands below.
    """

    name: str
    value: str
    about: str
    lines: tuple[str, ...] = ()


def command_name(name: str) -> str:
    """A command as it was started: `cwjax compare` or `python -m experiments.compare`."""
    return f"cwjax {name}" if Path(sys.argv[0]).stem == "cwjax" else f"python -m experiments.{name}"


def help_text(flags: type, about: str, name: str) -> str:
    """The whole page.

    Args:
        flags: the dataclass.
        about: the command's docstring; lines that begin with `cwjax` are its examples.
        name: of the command, e.g. `compare`.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    positional = [flag.value or flag.name for flag in flags_of(flags) if flag.name[0] != "-"]
    usage = " ".join(["Usage:", command_name(name), "[FLAG ...]", *positional])
    first, *others = inspect.cleandoc(about).split("\n\n")
    blocks = [_fill(first, width), usage]
    for block in others:
        if block.startswith(("cwjax ", "python ")):
            examples = block.replace(f"cwjax {name}", command_name(name))
            blocks.append("Examples:\n" + textwrap.indent(examples, "  "))
        else:
            blocks.append(_fill(block, width))
    for heading, group in sections(flags):
        lines = [_fill(heading, width) + ":"]
        blocks.append("\n".join([*lines, *(_flag_text(flag, width) for flag in group)]))
    blocks.append("  -h, --help".ljust(INDENT) + "Show this page.")
    return "\n\n".join(blocks)


def _fill(text: str, width: int, first_indent: str = "", indent: str = "") -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=first_indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _flag_text(flag: Flag, width: int) -> str:
    left = f"  {flag.name} {flag.value}".rstrip() if flag.name[0] == "-" else f"  {flag.name}"
    indent = " " * INDENT
    about = re.sub(r"\[default: [^]]{1,20}\]", lambda m: m[0].replace(" ", _NO_BREAK), flag.about)
    text = _fill(about, width, indent, indent)
    text = text.replace(_NO_BREAK, " ")
    beside = len(left) < INDENT - 1
    text = left.ljust(INDENT) + text[INDENT:] if beside else f"{left}\n{text}"
    below = [_fill(line, width, "", indent + "  ") for line in flag.lines]
    return "\n".join([text, *below])


def flags_of(flags: type) -> list[Flag]:
    """Every flag of a dataclass and of the dataclasses in it."""
    return [flag for _, group in sections(flags) for flag in group]


def sections(flags: type) -> list[tuple[str, list[Flag]]]:
    """Heading and flags of each dataclass, in the order of the fields."""
    hints, about = get_type_hints(flags, include_extras=True), _field_docstrings(flags)
    fields = dataclasses.fields(flags)
    nested = [hints[field.name] for field in fields if dataclasses.is_dataclass(hints[field.name])]
    own = [
        _flag(field, hints[field.name], about.get(field.name, ""))
        for field in fields
        if hints[field.name] not in nested
    ]
    group = [(inspect.cleandoc(flags.__doc__ or "").partition(".")[0], own)] if own else []
    groups = [each for inner in nested for each in sections(inner)]
    starts_with_own = not dataclasses.is_dataclass(hints[fields[0].name])
    return [*group, *groups] if starts_with_own else [*groups, *group]


def _field_docstrings(flags: type) -> dict[str, str]:
    """Name -> the string that stands below the field, of the class and those it inherits from."""
    found: dict[str, str] = {}
    for each in reversed(flags.__mro__):
        if dataclasses.is_dataclass(each):
            definition = _classes(each.__module__)[each.__name__]
            for field, below in zip(definition.body, definition.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    text = str(ast.literal_eval(below.value))
                    found[ast.unparse(field.target)] = " ".join(text.split())
    return found


@functools.cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module as they are written, by name; parsed once for all of them."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _flag(field: dataclasses.Field[Any], hint: Any, about: str) -> Flag:
    name, value = "--" + field.name.replace("_", "-"), _value(hint)
    lines = _TABLES[field.name]() if field.name in _TABLES else ()
    if get_origin(hint) is Annotated:  # tyro.conf.Positional
        several = get_origin(get_args(hint)[0]) is tuple
        return Flag(field.name.upper(), f"[{field.name.upper()} ...]" if several else "", about)
    default = field.default
    if default is True:
        return Flag(f"--no-{name[2:]}", "", f"Turn off what is on otherwise: {_lower(about)}")
    if (
        default is not False
        and default not in (None, (), dataclasses.MISSING)
        and "[default" not in about
    ):
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        about = f"{about.rstrip('.:')} [default: {shown}]{':' if lines else '.'}"
    return Flag(name, value, about, lines)


def _value(hint: Any) -> str:
    """What stands for the value of a flag of this type."""
    if hint is bool:
        return ""
    if hint in _VALUES:
        return _VALUES[hint]
    if get_origin(hint) is Literal:
        return "|".join(get_args(hint))
    inner = next(part for part in get_args(hint) if part not in (type(None), ...))
    return _value(inner) + (" ..." if get_origin(hint) is tuple else "")


def _table(rows: dict[str, str]) -> tuple[str, ...]:
    width = max(map(len, rows))
    return tuple(f"{' ' * INDENT}{name:{width}}  {about}" for name, about in rows.items())


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _sources() -> tuple[str, ...]:
    return _table({name + f":{s.place}" * bool(s.place): s.about for name, s in SOURCES.items()})


def _models() -> tuple[str, ...]:
    networks = _functions({name: entry.make for name, entry in MODELS.items()})
    estimators = f"{PREFIX}NAME  scikit-learn's {', '.join(ESTIMATORS)} (docs/estimators.md)"
    return (*networks, " " * INDENT + estimators)


def _functions(functions: Mapping[str, Callable[..., Any]]) -> tuple[str, ...]:
    """Names with their settings and defaults, as they are typed, and first lines of docstrings."""
    return _table(
        {
            ":".join([name, *map(str, settings_of(function))]): first_line(function)
            for name, function in functions.items()
        }
    )


_TABLES: dict[str, Callable[[], tuple[str, ...]]] = {
    "dataset": _sources,
    "model": _models,
    "optimizer": lambda: _functions(OPTIMIZERS),
    "schedule": lambda: _functions(SCHEDULES),
    "augment": lambda: _functions(AUGMENTATIONS),
}
"""Flags whose values are in a registry."""
