"""What the scripts of `benchmarks/` take from ctrkit is there: a number in the docs can be made again."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").rglob("*.py"))


def test_what_benchmarks_import_is_there() -> None:
    missing = []
    for script in SCRIPTS:
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("ctrkit"):
                continue
            module = import_module(node.module or "")
            for name in node.names:
                if not hasattr(module, name.name) and find_spec(f"{node.module}.{name.name}") is None:
                    missing.append(f"{script.name}:{node.lineno}: {node.module} has no '{name.name}'")
    assert not missing


def test_benchmarks_load_and_tell_their_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        needed = {name.split(".")[0] for name in re.findall(r"^(?:from|import) (\S+)", text, re.MULTILINE)}
        if "__main__" in text and all(find_spec(name) is not None for name in needed):
            monkeypatch.setattr(sys, "argv", [str(script), "--help"])
            monkeypatch.syspath_prepend(str(script.parent))
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(script), run_name="__main__")
            assert ended.value.code == 0, script
