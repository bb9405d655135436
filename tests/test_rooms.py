"""The road runs one way: a room may import from the rooms above it, never from those below."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]

# From the top of the road to its end; docs/architecture.md tells what lives in each.
ROOMS = (
    "errors", "extras", "arrays", "progress", "names", "shapes", "config", "settings", "file_kinds", "tables",
    "array_files", "onnx_graph", "hashing", "compiled", "schema", "data", "online", "metrics", "nn", "models",
    "artifact", "training", "calibration", "evaluation", "inspection", "policies", "explanations", "ope",
    "bidding", "experiments", "serving", "reports", "api", "cli",
)  # fmt: skip
# The wings of large rooms, in their order; what stands in the room itself may import from all of them.
WINGS = {
    "ope": (
        "formats", "intervals", "logs", "models", "estimators", "diagnostics", "structured", "evaluation",
        "bids", "audit",
    ),
    "bidding": ("market", "landscapes", "pacing", "optimum", "strategies", "supply", "simulation"),
}  # fmt: skip
# Of the room of commands: what all share, then its wings; every other file is a command.
BEFORE_COMMANDS = (
    "results", "registered", "sample_logs", "run_folder", "keywords", "log_columns", "models", "scores",
    "policies", "bidding", "calibration", "evaluation", "explanation", "reductions",
)  # fmt: skip
# Commands that are a step of another command.
STEPS = {
    ("evaluate_policy", "evaluate_bids"),
    ("learn_policy", "evaluate_policy"),
    ("train", "inspect"),
    ("prepare", "inspect"),
    ("list_models", "inspect"),
    ("serve", "export_model"),
}
# Rooms that work on arrays and tables alone; those that are handed encoded rows as plain arrays, too.
ARRAYS = ("metrics", "calibration", "evaluation", "inspection", "ope", "bidding", "policies")
WITHOUT_TORCH = (*ROOMS[: ROOMS.index("nn")], "artifact", *ARRAYS)


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


@cache
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


def test_imports_only_from_rooms_above() -> None:
    found = []
    for room, path in sources():
        if room == "__init__":
            continue
        if room not in ROOMS:
            found.append(f"{path} stands in no room of docs/architecture.md")
            continue
        for module in imports(path):
            target = room_of(module)
            if target is not None and target not in ROOMS[: ROOMS.index(room) + 1]:
                found.append(f"{path} imports {module}, which is not above it")
    assert not found


def test_a_wing_imports_only_from_wings_above_it() -> None:
    found = []
    for room, order in WINGS.items():
        for path in sorted((ROOT / "ctrkit" / room).rglob("*.py")):
            *wings, _ = path.relative_to(ROOT / "ctrkit" / room).parts
            if not wings and path.name != "__init__.py":
                found.append(f"{path} stands in no wing")
            for module in imports(path) if wings else ():
                parts = module.split(".")
                inside = parts[:2] == ["ctrkit", room] and len(parts) > 2
                if inside and parts[2] not in order[: order.index(wings[0]) + 1]:
                    found.append(f"{path} imports {module}, which is not above it")
    assert not found


def test_commands_import_from_what_they_share_and_not_from_one_another() -> None:
    found = []
    for path in sorted((ROOT / "ctrkit" / "api").rglob("*.py")):
        own = path.relative_to(ROOT / "ctrkit" / "api").parts[0].removesuffix(".py")
        for module in imports(path):
            target = ".".join(module.split(".")[2:3])
            if module.startswith("ctrkit.api.") and target != own and (own, target) not in STEPS:
                if target not in BEFORE_COMMANDS:
                    found.append(f"{path} imports the command {target}")
                elif own in BEFORE_COMMANDS and target not in BEFORE_COMMANDS[: BEFORE_COMMANDS.index(own)]:
                    found.append(f"{path} imports {module}, below it")
    assert not found


def imported(path: Path, known: Collection[str]) -> Iterator[str]:
    """The modules among those known that a module imports, on loading or later; for types alone is apart."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else str(node.module)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def test_no_modules_import_each_other_in_a_circle() -> None:
    named = {}
    for room, path in sources():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        named[f"ctrkit.{name}" if room == "cli" else name] = path
    left = {name: {*imported(path, named)} & {*named} - {name} for name, path in named.items()}
    while True:
        # What imports none of the others, or is imported by none of them, stands in no circle.
        wanted = {target for targets in left.values() for target in targets}
        free = {name for name, targets in left.items() if name not in wanted or not targets & {*left}}
        if not free:
            break
        left = {name: targets for name, targets in left.items() if name not in free}
    assert not left, f"these import each other in a circle: {sorted(left)}"


def test_rooms_of_arrays_know_nothing_of_encoders_and_networks() -> None:
    heavy = [
        f"{path} imports {module}"
        for room, path in sources()
        if room in ARRAYS
        for module in imports(path)
        if module.startswith(("torch", "ctrkit.data", "ctrkit.nn"))
    ]
    assert not heavy


def test_light_rooms_load_no_torch() -> None:
    package = ROOT / "ctrkit"
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for room, path in sources()
        if room in WITHOUT_TORCH and path.is_relative_to(package)
    ]
    assert len(modules) > 200
    modules.append("ctrkit.serving.bundle")  # of an exported model
    loads = "import sys; from importlib import import_module; [import_module(m) for m in sys.argv[1:]]"
    says = "sys.exit('torch' in sys.modules and 'torch was loaded')"
    subprocess.run([sys.executable, "-c", f"{loads}; {says}", *modules], check=True, cwd=ROOT)


def test_every_folder_of_the_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(settings["tool"]["setuptools"]["packages"])
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "ctrkit").rglob("*.py")}
    outside = set(settings["tool"]["setuptools"]["package-dir"])
    assert listed == folders | outside, "packages of pyproject.toml are not the folders of ctrkit/"
