"""Programs as policies: they give what torch's own loaders give, and run nothing that they should not."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn

from ctrkit.api.policy_program import kind_of_program, open_program
from ctrkit.errors import ArtifactError, DataError

CONTEXT = pl.DataFrame(
    {"a": [0.5, -1.0, 2.0, 0.0], "b": [1, 2, 3, 4], "c": [True, False, True, True], "t": list("wxyz")}
)
# Ids from 0 to 4; the last row has two candidates.
CANDIDATES = pl.Series("candidates", [[0, 1, 4], [3, 2, 1], [4, 3, 0], [2, 4]])
ALL = pl.Series("candidates", [[0, 1, 2]] * 4)


class Of(nn.Module):
    """A network of the context, and of the candidates where it is given them."""

    def __init__(self, outputs: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 8)
        self.norm = nn.LayerNorm(8)
        self.last = nn.Linear(8, outputs)
        self.register_buffer("shift", torch.randn(outputs))
        self.register_buffer("scale", torch.rand(outputs), persistent=False)

    def all(self, x: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.norm(self.first(x)))
        return self.last(hidden) * self.scale + self.shift + torch.tensor([0.25])


class OfContext(Of):
    def forward(self, x: Tensor) -> Tensor:
        return self.all(x)


class OfBoth(Of):
    def forward(self, x: Tensor, candidates: Tensor) -> Tensor:
        # What stands at -1 must not matter.
        found = self.all(x).gather(1, candidates.clamp(min=0))
        return torch.where(candidates < 0, torch.full_like(found, float("nan")), found)


class OfSizes(Of):
    """Sizes, lists of tensors, several outputs of one operator, embeddings and arithmetic of sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = nn.EmbeddingBag(6, 4, mode="mean")
        self.vectors = nn.Embedding(6, 4)

    def forward(self, x: Tensor, candidates: Tensor) -> Tensor:
        rows, places = candidates.shape
        first, rest = torch.split(x, [1, 2], dim=1)
        both = torch.cat([first, rest, rest.max(dim=1, keepdim=True).values], dim=1)
        wide = both.unsqueeze(1).expand(rows, places, 4).reshape(rows * places, 4)
        found = (wide * self.vectors((candidates + 1).reshape(-1))).sum(dim=1)
        bag = self.ids((candidates + 1).clamp(max=5)).mean(dim=1, keepdim=True)
        return found.view(rows, places) / (places + 1) + bag.to(torch.float32) + x[:, 1:2] ** 2


def scripted(module: nn.Module, path: Path, **extra: str) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module.eval()), path, _extra_files=extra)
    return path


def exported(module: nn.Module, path: Path, **extra: str) -> Path:
    rows, places = torch.export.Dim("rows"), torch.export.Dim("places")
    inputs = (torch.randn(6, 3), torch.zeros(6, 4, dtype=torch.int64))
    shapes = ({0: rows}, {0: rows, 1: places})
    count = 1 if isinstance(module, OfContext) else 2
    program = torch.export.export(module.eval(), inputs[:count], dynamic_shapes=shapes[:count])
    torch.export.save(program, path, extra_files=extra)
    return path


SAVE = {"TorchScript": scripted, "torch.export": exported}
Save = Callable[..., Path]


@pytest.fixture(params=sorted(SAVE))
def save(request: pytest.FixtureRequest) -> Save:
    return SAVE[request.param]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound export of two inputs."""
    return exported(OfBoth(), tmp_path_factory.mktemp("sound") / "sound.pt2")


def features() -> Tensor:
    return torch.from_numpy(CONTEXT.select(pl.col("a", "b", "c").cast(pl.Float32)).to_numpy().copy())


def matrix(candidates: pl.Series) -> Tensor:
    width = max(len(row) for row in candidates)
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in candidates.to_list()])


def expected(logits: Tensor, candidates: pl.Series) -> np.ndarray:
    """scipy's softmax, row by row."""
    found = np.zeros(logits.shape)
    for row, ids in enumerate(candidates.to_list()):
        found[row, : len(ids)] = softmax(logits[row, : len(ids)].double().numpy())
    return found


@pytest.mark.parametrize("module", [OfBoth, OfSizes])
def test_a_program_of_context_and_candidates(save: Save, module: type[nn.Module], tmp_path: Path) -> None:
    network = module().eval()
    policy = open_program(save(network, tmp_path / "p.bin", columns="a, b,c"))
    with torch.no_grad():
        logits = network(features(), matrix(CANDIDATES))
    found = policy.probabilities(CONTEXT, CANDIDATES)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected(logits, CANDIDATES), rtol=1e-5)
    assert found[3, 2] == 0


def test_rows_do_not_depend_on_one_another(sound: Path) -> None:
    policy = open_program(sound, ["a", "b", "c"])
    found = policy.probabilities(CONTEXT, CANDIDATES)
    alone = policy.probabilities(CONTEXT[3:], CANDIDATES[3:])
    np.testing.assert_allclose(alone, found[3:, :2], rtol=1e-5)


def test_the_graph_gives_what_torchs_own_loader_gives(tmp_path: Path) -> None:
    for module in (OfBoth(), OfSizes()):
        path = exported(module, tmp_path / f"{type(module).__name__}.pt2")
        program = open_program(path, ["a", "b", "c"]).program
        theirs = torch.export.load(path).module()
        for rows, places in ((4, 3), (7, 1), (2, 5)):
            inputs = torch.randn(rows, 3), torch.randint(-1, 5, (rows, places))
            torch.testing.assert_close(
                program.run(*inputs), theirs(*inputs), rtol=0, atol=0, equal_nan=True, check_stride=False
            )


def test_a_program_of_the_context_scores_all_actions(save: Save, tmp_path: Path) -> None:
    network = OfContext(3).eval()
    policy = open_program(save(network, tmp_path / "p.pt", columns="a,b,c"))
    with torch.no_grad():
        logits = network(features())
    np.testing.assert_allclose(policy.probabilities(CONTEXT, ALL), expected(logits, ALL), rtol=1e-5)
    # Its outputs are of the sorted actions, in whichever order the rows name them.
    turned = policy.probabilities(CONTEXT, ALL.list.reverse())
    np.testing.assert_allclose(turned, expected(logits, ALL)[:, ::-1], rtol=1e-5)
    with pytest.raises(ArtifactError, match="not all the same candidates"):
        policy.probabilities(CONTEXT, pl.Series([[0, 1, 5]] * 4))
    with pytest.raises(ArtifactError, match="not all the same candidates"):
        policy.probabilities(CONTEXT, CANDIDATES)


def test_a_program_may_say_which_actions_it_scores(tmp_path: Path) -> None:
    network = OfContext(5).eval()
    path = scripted(network, tmp_path / "p.pt", columns="a,b,c", actions="e,d,c,b,a")
    candidates = pl.Series([["a", "e"], ["b"], ["c", "d", "e"], ["e", "a"]])
    with torch.no_grad():
        logits = network(features())
    found = open_program(path).probabilities(CONTEXT, candidates)
    np.testing.assert_allclose(found[0, :2], softmax(logits[0, [4, 0]].double().numpy()), rtol=1e-5)
    np.testing.assert_allclose(found[2], softmax(logits[2, [2, 1, 0]].double().numpy()), rtol=1e-5)
    with pytest.raises(ArtifactError, match=r"action 'a' is none of the program's 4"):
        open_program(path, actions=["e", "d", "c", "b"]).probabilities(CONTEXT, candidates)


def test_programs_are_known_by_content(trained: Path, save: Save, tmp_path: Path) -> None:
    path = save(OfBoth(), tmp_path / "model.pt")
    assert kind_of_program(path) == {v: k for k, v in SAVE.items()}[save]
    assert kind_of_program(trained) is None
    (tmp_path / "text.pt2").write_text("no program")
    assert kind_of_program(tmp_path / "text.pt2") is None
    with pytest.raises(ArtifactError, match="neither a TorchScript nor"):
        open_program(tmp_path / "text.pt2")


class Malice:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def altered(path: Path, to: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive with other content; None leaves a file out."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            content = change(name.partition("/")[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return to


def with_json(path: Path, to: Path, inside: str, change: Callable[[Any], None]) -> Path:
    def edit(name: str, content: bytes) -> bytes:
        if name != inside:
            return content
        loaded = json.loads(content)
        change(loaded)
        return json.dumps(loaded).encode()

    return altered(path, to, edit)


def test_a_pickled_weight_is_refused_and_does_not_run(sound: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    payload = io.BytesIO()
    torch.save(Malice(mark), payload)

    def change(name: str, content: bytes) -> bytes:
        if name == "data/weights/weight_0":
            return payload.getvalue()
        if name == "data/weights/model_weights_config.json":
            config = json.loads(content)
            for one in config["config"].values():
                one["use_pickle"] |= one["path_name"] == "weight_0"
            return json.dumps(config).encode()
        return content

    path = altered(sound, tmp_path / "bad.pt2", change)
    with pytest.raises(ArtifactError, match="is stored as a pickle, which could run any code"):
        open_program(path, ["a", "b", "c"])
    assert not mark.exists()
    # The payload is a true one: torch's own loader runs it.
    with pytest.raises(Exception, match=r".*"):
        torch.export.load(path)
    assert mark.exists()


def test_pickled_example_inputs_are_not_read(sound: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    payload = io.BytesIO()
    torch.save(Malice(mark), payload)
    path = altered(
        sound,
        tmp_path / "bad.pt2",
        lambda name, content: payload.getvalue() if name == "data/sample_inputs/model.pt" else content,
    )
    found = open_program(path, ["a", "b", "c"]).probabilities(CONTEXT, CANDIDATES)
    np.testing.assert_array_equal(
        found, open_program(sound, ["a", "b", "c"]).probabilities(CONTEXT, CANDIDATES)
    )
    assert not mark.exists()


def test_code_in_the_shapes_is_not_run(sound: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    def change(content: Any) -> None:
        text = json.dumps(content["graph_module"]["graph"]["tensor_values"])
        evil = f"__import__('pathlib').Path('{mark}').touch() or Symbol('s1')"
        symbols = {
            size["as_expr"]["expr_str"]
            for meta in json.loads(text).values()
            for size in meta["sizes"]
            if "as_expr" in size
        }
        assert symbols
        for symbol in symbols:
            text = text.replace(json.dumps(symbol), json.dumps(evil))
        content["graph_module"]["graph"]["tensor_values"] = json.loads(text)

    path = with_json(sound, tmp_path / "bad.pt2", "models/model.json", change)
    open_program(path, ["a", "b", "c"]).probabilities(CONTEXT, CANDIDATES)
    assert not mark.exists()


@pytest.mark.parametrize(
    "target", ["torch.os.system", "torch.ops.aten.from_file.default", "torch.ops.aten.save.default", "#x:y",
               "_operator.methodcaller", "torch.ops.higher_order.cond", "torch.ops.aten.__class__.__init__"],
)  # fmt: skip
def test_only_torchs_own_operators_are_called(sound: Path, tmp_path: Path, target: str) -> None:
    def change(content: Any) -> None:
        content["graph_module"]["graph"]["nodes"][0]["target"] = target

    path = with_json(sound, tmp_path / "bad.pt2", "models/model.json", change)
    with pytest.raises(ArtifactError, match=r"which is not run here|is damaged"):
        open_program(path, ["a", "b", "c"])


def test_torchscript_runs_no_pickle_of_python(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = scripted(OfBoth(), tmp_path / "p.pt", columns="a,b,c")
    for inside in ("data.pkl", "constants.pkl"):
        bad = altered(
            path,
            tmp_path / f"bad_{inside}",
            lambda name, content, inside=inside: pickle.dumps(Malice(mark), 2) if name == inside else content,
        )
        with pytest.raises(ArtifactError, match="TorchScript program is damaged"):
            open_program(bad)
    assert not mark.exists()


class Writes(OfContext):
    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, "somewhere")
        return self.all(x)


def test_torchscript_that_writes_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="reads or writes files"):
        open_program(scripted(Writes(), tmp_path / "p.pt", columns="a,b,c"))


def test_old_and_broken_archives_are_refused(sound: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.pt2"
    with zipfile.ZipFile(old, "w") as archive:
        archive.writestr("version", "8.1")
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", pickle.dumps(Malice(tmp_path / "ran")))
    with pytest.raises(ArtifactError, match="are a pickle"):
        open_program(old)
    broken = altered(sound, tmp_path / "b.pt2", lambda name, c: c[:9] if name.endswith("weight_0") else c)
    with pytest.raises(ArtifactError, match="damaged"):
        open_program(broken, ["a", "b", "c"])
    newer = with_json(
        sound, tmp_path / "n.pt2", "models/model.json", lambda c: c["schema_version"].update(major=9)
    )
    with pytest.raises(ArtifactError, match="schema is 9"):
        open_program(newer, ["a", "b", "c"])
    compiled = altered(sound, tmp_path / "c.pt2", lambda name, c: None if "models/" in name else c)
    with pytest.raises(ArtifactError, match="no exported program"):
        open_program(compiled, ["a", "b", "c"])


class Returns(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor, candidates: Tensor) -> Tensor:
        if self.kind == "one too many":
            return torch.zeros(candidates.size(0), candidates.size(1) + 1)
        if self.kind == "none":
            return torch.full(candidates.shape, -float("inf"))
        return torch.full(candidates.shape, float("nan"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("one too many", r"gives \[4, 4\], and logits of \[4, 3\]"),
        ("nan", "logit of candidate 0 of row 0 is nan"),
        ("none", "logits of row 0 are all -inf"),
    ],
)
def test_faults_of_the_output_are_said(kind: str, message: str, tmp_path: Path) -> None:
    path = scripted(Returns(kind), tmp_path / "p.pt", columns="a")
    with pytest.raises(ArtifactError, match=message) as error:
        open_program(path).probabilities(CONTEXT, CANDIDATES)
    assert error.value.file == str(path)


def test_a_program_that_fails_is_named(tmp_path: Path) -> None:
    path = scripted(OfBoth(), tmp_path / "p.pt", columns="a,b")
    with pytest.raises(ArtifactError, match=r"fails on inputs of \[4, 2\] and \[4, 3\]") as error:
        open_program(path).probabilities(CONTEXT, CANDIDATES)
    assert error.value.file == str(path)


class OfThree(nn.Module):
    def forward(self, x: Tensor, candidates: Tensor, more: Tensor) -> Tensor:
        return x + more


def test_the_number_and_shapes_of_inputs(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="takes 3 inputs"):
        open_program(scripted(OfThree(), tmp_path / "p.pt", columns="a"))
    with pytest.raises(ArtifactError, match="reads 3 columns and 2 are named"):
        open_program(sound, ["a", "b"])
    fixed = tmp_path / "fixed.pt2"
    torch.export.save(torch.export.export(OfContext(), (torch.randn(6, 3),)), fixed)
    with pytest.raises(ArtifactError, match=r"fixed shape \[6, 3\]"):
        open_program(fixed, ["a", "b", "c"])


class Counts(OfContext):
    def forward(self, x: Tensor) -> Tensor:
        self.shift.add_(1.0)
        return self.all(x)


def test_a_program_that_changes_itself_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(
        Counts().eval(), (torch.randn(6, 3),), dynamic_shapes=({0: torch.export.Dim("rows")},)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch warns of itself
        torch.export.save(program.run_decompositions({}), tmp_path / "p.pt2")
    with pytest.raises(ArtifactError, match="changes its own weights"):
        open_program(tmp_path / "p.pt2", ["a", "b", "c"])


def test_a_module_in_training_is_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    rows = torch.export.Dim("rows", min=2)
    path = tmp_path / "p.pt2"
    program = torch.export.export(module, (torch.randn(6, 3),), dynamic_shapes=({0: rows},))
    torch.export.save(program, path)
    with pytest.raises(ArtifactError, match="in training mode"):
        open_program(path, ["a", "b", "c"])


def test_columns(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not say which columns"):
        open_program(sound)
    with pytest.raises(DataError, match=r"column 'bb'.*Did you mean 'b'"):
        open_program(sound, ["a", "bb", "c"]).probabilities(CONTEXT, CANDIDATES)
    with pytest.raises(DataError, match=r"column 't'.*reads numbers"):
        open_program(sound, ["a", "b", "t"]).probabilities(CONTEXT, CANDIDATES)
    gap = CONTEXT.with_columns(b=pl.Series([1, 2, None, 4]))
    with pytest.raises(DataError, match="here is none") as error:
        open_program(sound, ["a", "b", "c"]).probabilities(gap, CANDIDATES)
    assert (error.value.column, error.value.row) == ("b", 2)
    with pytest.raises(ArtifactError, match="candidates as whole numbers"):
        open_program(sound, ["a", "b", "c"]).probabilities(CONTEXT, pl.Series([["x"]] * 4))
