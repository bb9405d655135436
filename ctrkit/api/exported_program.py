"""`torch.export` programs, run without torch's own loader: no pickle, no `eval`, no generated Python.

A `.pt2` archive holds a graph of operators as JSON and the weights as raw bytes. torch.export.load (of torch
2.13) reads more than these: example inputs and marked payloads are unpickled without restrictions, shapes are
given to sympy's parser, which is `eval`, and names become Python source, which is executed. A stranger's file
could do anything there. Here the nodes are called one by one, in their order, and nothing else is read.
"""

from __future__ import annotations

import json
import math
import operator
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ctrkit.errors import ArtifactError

# Of torch's schema of programs (torch/_export/serde/schema.py): the major version and the codes of its enums.
SCHEMA = 8
_TYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16,
    7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_MEMORY_FORMATS: Mapping[int, torch.memory_format] = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format,
}  # fmt: skip
_STRIDED = 7
# The arithmetic of sizes.
_OF_NUMBERS = frozenset({
    "abs", "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "le", "lt", "mod", "mul", "ne", "neg",
    "not_", "or_", "pos", "pow", "sub", "truediv",
})  # fmt: skip
# The operators that read or write files that they name.
OF_FILES = frozenset({"from_file", "save"})

# A piece of the graph's JSON; its keys are those of torch's schema.
_Json: TypeAlias = dict[str, Any]
_Operator: TypeAlias = Callable[..., Any]

_SAVE_AGAIN = "Save it again with torch.export.save of torch 2.10 or newer, plain tensors for weights"


@dataclass(frozen=True)
class _Node:
    """A call: the operator, what it is given and the names of what comes out."""

    run: _Operator
    arguments: Sequence[_Json]
    named: Mapping[str, _Json]
    outputs: Sequence[str | Sequence[str] | None]


@dataclass(frozen=True)
class ExportedProgram:
    """A graph of torch's operators, ready to run on tensors of the CPU.

    Attributes:
        inputs: the shape of each input; None for a size that may vary.
    """

    inputs: tuple[tuple[int | None, ...], ...]
    _names: tuple[str, ...]
    _weights: Mapping[str, Tensor]
    _nodes: Sequence[_Node]
    _output: str

    def __call__(self, *given: Tensor) -> Tensor:
        """What the program makes of its inputs."""
        known: dict[str, Any] = {**self._weights, **dict(zip(self._names, given, strict=True))}
        for node in self._nodes:
            result = node.run(
                *(_value(argument, known) for argument in node.arguments),
                **{name: _value(argument, known) for name, argument in node.named.items()},
            )
            if not node.outputs:  # a check of what was found before
                continue
            results = result if len(node.outputs) > 1 else [result]
            for name, one in zip(node.outputs, results, strict=True):
                if isinstance(name, str):
                    known[name] = one
                elif name is not None:
                    known.update(zip(name, one, strict=True))
        found: Tensor = known[self._output]
        return found


def open_exported(archive: zipfile.ZipFile, file: str) -> ExportedProgram:
    """Read the program of an archive.

    Args:
        archive: a `.pt2` file, open. file: its name, for messages.

    Raises:
        ArtifactError: the archive has payloads that are pickles, a program of another kind, an operator that
            is none of torch's own, or is damaged.
    """
    try:
        return _opened(archive, file)
    except (
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        AttributeError,
        RuntimeError,
        zipfile.BadZipFile,
    ) as error:
        raise ArtifactError(
            "the exported program is damaged, or of a form that is not known here",
            file=file,
            mend=_SAVE_AGAIN,
        ) from error


def _opened(archive: zipfile.ZipFile, file: str) -> ExportedProgram:
    root = archive.namelist()[0].partition("/")[0]
    names = {name.removeprefix(f"{root}/") for name in archive.namelist()}
    old = {"serialized_state_dict.pt", "data/weights/model.pt", "data/constants/model.pt"}
    if old & names or "serialized_exported_program.json" in names:
        raise ArtifactError(
            "the program's weights are a pickle, which could run any code", file=file, mend=_SAVE_AGAIN
        )
    if "models/model.json" not in names:
        raise ArtifactError(
            "the archive holds no exported program named 'model'; compiled code is not run",
            file=file,
            mend="Write it with torch.export.save",
        )

    def read(name: str) -> _Json:
        content: _Json = json.loads(archive.read(f"{root}/{name}"))
        return content

    content = read("models/model.json")
    version = content["schema_version"]["major"]
    if version != SCHEMA:
        raise ArtifactError(
            f"the program's schema is {version}, and {SCHEMA} is read", file=file, mend=_SAVE_AGAIN
        )
    tensors: dict[str, Tensor] = {}
    for kind in ("weights", "constants"):
        for name, payload in read(f"data/{kind}/model_{kind}_config.json")["config"].items():
            if payload["use_pickle"] or payload["tensor_meta"] is None:
                raise ArtifactError(
                    f"'{name}' is stored as a pickle, which could run any code", file=file, mend=_SAVE_AGAIN
                )
            raw = archive.read(f"{root}/data/{kind}/{payload['path_name']}")
            tensors[name] = _tensor(raw, payload["tensor_meta"])
    graph, signature = content["graph_module"]["graph"], content["graph_module"]["signature"]
    weights, inputs = _inputs(signature["input_specs"], tensors, file)
    outputs = [(kind, spec["arg"]) for one in signature["output_specs"] for kind, spec in one.items()]
    if [kind for kind, _ in outputs] != ["user_output"] or "as_tensor" not in outputs[0][1]:
        raise ArtifactError(
            "the program gives more or other than one tensor, or changes its own weights",
            file=file,
            mend="Export a module in evaluation mode (`.eval()`) that returns the logits",
        )
    return ExportedProgram(
        tuple(_shape(graph["tensor_values"][name]) for name in inputs),
        tuple(inputs),
        weights,
        [_node(node, file) for node in graph["nodes"]],
        outputs[0][1]["as_tensor"]["name"],
    )


def _inputs(
    specs: Sequence[_Json], tensors: Mapping[str, Tensor], file: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that the graph reads by name, and the names of those that it is given."""
    weights: dict[str, Tensor] = {}
    given: list[str] = []
    for spec in specs:
        (kind, content), *_ = spec.items()
        if kind == "user_input" and "as_tensor" in content["arg"]:
            given.append(content["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            weights[content["arg"]["name"]] = tensors[content[f"{kind}_name"]]
        elif kind != "constant_input":
            raise ArtifactError(
                "an input of the program is no tensor", file=file, mend="Export a function of tensors"
            )
    return weights, given


def _tensor(raw: bytes, meta: _Json) -> Tensor:
    """A tensor of the sizes and strides of its description, from the bytes of its storage."""
    sizes, strides = ([one["as_int"] for one in meta[key]] for key in ("sizes", "strides"))
    kind = _TYPES[meta["dtype"]]
    if not raw:
        return torch.zeros(sizes, dtype=kind)
    flat = torch.frombuffer(bytearray(raw), dtype=kind)
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"])


def _shape(meta: _Json) -> tuple[int | None, ...]:
    return tuple(size.get("as_int") for size in meta["sizes"])


def _node(node: _Json, file: str) -> _Node:
    by_name = {one["name"]: one["arg"] for one in node["inputs"] if one["kind"] == 2}
    in_order = [one["arg"] for one in node["inputs"] if one["kind"] != 2]
    for argument in (*in_order, *by_name.values()):
        if next(iter(argument)) not in _VALUES:
            raise ArtifactError(
                f"operator {node['target']} is given something that is neither tensor nor number",
                file=file,
                mend="Export a module without branches and custom objects",
            )
    if any(one["name"] in ("train", "training") and one["arg"].get("as_bool") for one in node["inputs"]):
        raise ArtifactError(
            "the program was exported in training mode, where rows change one another's logits",
            file=file,
            mend="Export the module after `.eval()`",
        )
    return _Node(
        _operator(node["target"], file), in_order, by_name, [_outcome(one) for one in node["outputs"]]
    )


def _operator(target: str, file: str) -> _Operator:
    """One of torch's own operators, or arithmetic of sizes."""
    if (name := target.removeprefix("_operator.")) in _OF_NUMBERS and name != target:
        found: _Operator = getattr(operator, name)
        return found
    if match := re.fullmatch(r"math\.([a-z]\w*)|torch\.(sym_[a-z]+)", target):
        found = getattr(math, match[1]) if match[1] else getattr(torch, match[2])
        if callable(found):
            return found
    if (match := re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)) and match[1] not in OF_FILES:
        overload = getattr(getattr(torch.ops.aten, match[1]), match[2])
        if isinstance(overload, torch._ops.OpOverload):
            return overload
    raise ArtifactError(
        f"the program calls '{target}', which is not run here",
        file=file,
        mend="Export a module of torch's own tensor operators, without branches that depend on the data",
    )


def _outcome(output: _Json) -> str | list[str] | None:
    """Under which name, or names, an output is known."""
    (kind, content), *_ = output.items()
    if kind == "as_none":
        return None
    if kind == "as_tensors":
        return [one["name"] for one in content]
    name: str = content["name"] if kind == "as_tensor" else content["as_name"]
    return name


def _named(content: Any, known: Mapping[str, Any]) -> Any:
    """A number: as it stands, or one that was computed."""
    (kind, value), *_ = content.items()
    return known[value] if kind == "as_name" else value


def _optional(content: _Json, known: Mapping[str, Any]) -> Any:
    return known[content["as_tensor"]["name"]] if "as_tensor" in content else None


def _plain(content: Any, known: Mapping[str, Any]) -> Any:
    return content


# What an argument may be, and how its JSON is read. Infinite numbers are written as text.
_VALUES: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "as_none": lambda content, known: None,
    "as_tensor": lambda content, known: known[content["name"]],
    "as_tensors": lambda content, known: [known[one["name"]] for one in content],
    "as_optional_tensors": lambda content, known: [_optional(one, known) for one in content],
    **dict.fromkeys(("as_int", "as_bool", "as_string", "as_ints", "as_bools", "as_strings"), _plain),
    "as_float": lambda content, known: float(content),
    "as_floats": lambda content, known: [float(one) for one in content],
    **dict.fromkeys(("as_sym_int", "as_sym_float", "as_sym_bool"), _named),
    **dict.fromkeys(
        ("as_sym_ints", "as_sym_floats", "as_sym_bools"),
        lambda content, known: [_named(one, known) for one in content],
    ),
    "as_scalar_type": lambda content, known: _TYPES[content],
    "as_memory_format": lambda content, known: _MEMORY_FORMATS[content],
    "as_layout": lambda content, known: {_STRIDED: torch.strided}[content],
    "as_device": lambda content, known: torch.device("cpu"),
}


def _value(argument: _Json, known: Mapping[str, Any]) -> Any:
    (kind, content), *_ = argument.items()
    return _VALUES[kind](content, known)
