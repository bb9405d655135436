"""Docstrings have the form that documentation tools read: each name on its own line, with its meaning."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest

ROOT = Path(__file__).parents[1]
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documented(node: Documented) -> Iterator[Documented]:
    """A node and everything public in it: classes, functions and methods."""
    yield node
    for child in node.body:
        public = isinstance(child, (ast.ClassDef, ast.FunctionDef)) and not child.name.startswith("_")
        if public and not isinstance(node, ast.FunctionDef):
            assert isinstance(child, (ast.ClassDef, ast.FunctionDef))
            yield from documented(child)


def names_of(node: Documented) -> set[str]:
    """The arguments of a function, or the fields of a class and the arguments of its `__init__`."""
    if isinstance(node, ast.FunctionDef):
        return {one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    names: set[str] = set()
    for child in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            names.add(child.target.id)
        elif isinstance(child, ast.FunctionDef) and child.name == "__init__":
            names |= names_of(child)
    return names


def faults(source: str) -> Iterator[str]:
    """What is wrong with the public docstrings of a file, with the name of their owner."""
    for node in documented(ast.parse(source)):
        text = ast.get_docstring(node) or ""
        name = getattr(node, "name", "the module")
        if text.startswith("See ") and "\n\n" not in text:
            yield f"{name}: '{text}' says no meaning"
        section = ""
        for line in text.splitlines():
            if re.fullmatch(r"[A-Z]\w+:", line):
                section = line
            if section not in ("Args:", "Attributes:"):
                continue
            if re.match(r" {4}[*\w]+(, [*\w]+)+:", line):
                yield f"{name}: '{line.strip()}' joins names"
                continue
            later = re.findall(r"[.;,)\]] ([a-z_]\w*): ", re.sub(r"`[^`]*`", "`", line))
            if joined := names_of(node) & {*later}:
                yield f"{name}: '{line.strip()}' has an entry for {', '.join(sorted(joined))} in its middle"


@pytest.mark.parametrize(
    ("docstring", "found"),
    [
        ("A sum.\n\n    Args:\n        a: first term.\n        b: second term (see `a`).", 0),
        (
            "A sum.\n\n    Args:\n        a: see `x, b: 1`.\n        b: one of\n            c, d: letters.",
            0,
        ),
        ("A sum.\n\n    Raises:\n        KeyError, ValueError: never.", 0),
        ("See `total`.", 1),
        ("See `total`, which does the same\n    for more terms.", 1),
        ("A sum.\n\n    Args:\n        a, b: terms.", 1),
        ("A sum.\n\n    Args:\n        *a, **b: terms.", 1),
        ("A sum.\n\n    Args:\n        a: first term. b: second term.", 1),
    ],
)
def test_faults_are_found(docstring: str, found: int) -> None:
    function = f'def add(a, b):\n    """{docstring}"""\n'
    assert len([*faults(function)]) == found
    assert len([*faults(f"class Sum:\n{indent(function, '    ')}")]) == found
    assert not [*faults(function.replace("add", "_add"))]


def test_public_docstrings_have_one_name_on_each_line_and_say_a_meaning() -> None:
    files = [path for room in ("ctrkit", "cli") for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(files) > 300
    found = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in files
        for fault in faults(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)
