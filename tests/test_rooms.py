"""The road runs one way: a room may import from the rooms above it, never from those below."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top of the road to its end; docs/architecture.md tells what lives in each.
ROOMS = (
    "errors", "arrays", "names", "shapes", "config", "file_kinds", "tables", "hashing", "compiled", "schema",
    "data", "metrics", "nn", "models", "artifact", "training", "calibration", "evaluation", "policies",
    "explanations", "ope", "bidding", "experiments", "serving", "reports", "api", "cli",
)  # fmt: skip
# The wings of large rooms, in their order; what stands in the room itself may import from all of them.
WINGS = {
    "ope": (
        "formats", "intervals", "logs", "models", "estimators", "diagnostics", "structured", "evaluation",
        "bids", "audit",
    ),
    "bidding": ("market", "landscapes", "pacing", "optimum", "strategies", "supply", "simulation"),
}  # fmt: skip
WITHOUT_TORCH = ("metrics", "calibration", "evaluation", "ope", "bidding", "policies")


def room_of(module: str) -> str | None:
    """The room of a dotted module name; None for what is not ctrkit's or is the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "ctrkit" and len(parts) > 1 else None


def sources() -> list[tuple[str, Path]]:
    package = [
        (path.relative_to(ROOT / "ctrkit").parts[0].removesuffix(".py"), path)
        for path in sorted((ROOT / "ctrkit").rglob("*.py"))
    ]
    return [*package, *(("cli", path) for path in sorted((ROOT / "cli").rglob("*.py")))]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "ctrkit")
    return found


@pytest.mark.parametrize(
    ("room", "path"),
    [s for s in sources() if s[0] != "__init__"],
    ids=lambda value: str(value.relative_to(ROOT)) if isinstance(value, Path) else None,
)
def test_imports_only_from_rooms_above(room: str, path: Path) -> None:
    assert room in ROOMS, f"{path} stands in no room of docs/architecture.md"
    for module in imports(path):
        target = room_of(module)
        if target is not None:
            assert target in ROOMS, f"{path} imports {module}"
            assert ROOMS.index(target) <= ROOMS.index(room), f"{path} imports {module}, which is below it"


@pytest.mark.parametrize("room", WINGS)
def test_a_wing_imports_only_from_wings_above_it(room: str) -> None:
    order = WINGS[room]
    for path in sorted((ROOT / "ctrkit" / room).rglob("*.py")):
        *wings, _ = path.relative_to(ROOT / "ctrkit" / room).parts
        assert wings or path.name == "__init__.py", f"{path} stands in no wing"
        for module in imports(path) if wings else ():
            parts = module.split(".")
            if parts[:2] == ["ctrkit", room] and len(parts) > 2:
                assert order.index(parts[2]) <= order.index(wings[0]), f"{path} imports {module}, below it"


def test_light_rooms_do_not_import_torch() -> None:
    for room, path in sources():
        if room in WITHOUT_TORCH:
            heavy = [
                m
                for m in imports(path)
                if m.split(".")[0] == "torch" or m.startswith(("ctrkit.data", "ctrkit.nn"))
            ]
            assert not heavy, f"{path} imports {heavy}"
