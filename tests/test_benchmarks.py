"""What the scripts of `benchmarks/` take from ctrkit is there: a number in the docs can be made again."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(path.parents[1])))
def test_what_a_benchmark_imports_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("ctrkit"):
            continue
        module = import_module(node.module or "")
        for name in node.names:
            there = hasattr(module, name.name) or find_spec(f"{node.module}.{name.name}") is not None
            assert there, f"line {node.lineno}: {node.module} has no '{name.name}'"
