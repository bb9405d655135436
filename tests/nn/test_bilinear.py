from __future__ import annotations

from itertools import combinations

import pytest
import torch

from ctrkit.errors import ConfigError
from ctrkit.nn.bilinear import BilinearForm, BilinearFusion, BilinearInteraction, DotProducts

ROWS, VECTORS, WIDTH = 3, 4, 5
FORMS: tuple[BilinearForm, ...] = ("all", "each", "interaction")


def vectors() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(ROWS, VECTORS, WIDTH)


def test_dot_products_pair_by_pair() -> None:
    v, products = vectors(), DotProducts(VECTORS)
    expected = [[float(v[b, i] @ v[b, j]) for i, j in combinations(range(VECTORS), 2)] for b in range(ROWS)]
    assert products.outputs == 6
    torch.testing.assert_close(products(v), torch.tensor(expected))


@pytest.mark.parametrize("form", FORMS)
def test_bilinear_interaction_number_by_number(form: BilinearForm) -> None:
    torch.manual_seed(0)
    v, interaction = vectors(), BilinearInteraction(VECTORS, WIDTH, form)
    w = interaction.weight.detach()
    expected = torch.zeros(ROWS, 6, WIDTH)
    for b in range(ROWS):
        for p, (i, j) in enumerate(combinations(range(VECTORS), 2)):
            matrix = w[{"all": 0, "each": i, "interaction": p}[form]]
            for k in range(WIDTH):
                expected[b, p, k] = sum(v[b, i, n] * matrix[n, k] for n in range(WIDTH)) * v[b, j, k]
    assert interaction.outputs == 6 * WIDTH
    torch.testing.assert_close(interaction(v).detach(), expected.flatten(1))


def test_equal_matrices_make_the_forms_equal() -> None:
    v, shared = vectors(), torch.randn(WIDTH, WIDTH)
    results = []
    for form in FORMS:
        interaction = BilinearInteraction(VECTORS, WIDTH, form)
        interaction.load_state_dict({"weight": shared.expand_as(interaction.weight)})
        results.append(interaction(v).detach())
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


@pytest.mark.parametrize("form", FORMS)
def test_every_matrix_starts_as_a_layer_of_its_own(form: BilinearForm) -> None:
    torch.manual_seed(0)
    stds = BilinearInteraction(6, 64, form).weight.detach().std(dim=(1, 2))
    torch.testing.assert_close(stds, torch.full_like(stds, (2 / (64 + 64)) ** 0.5), rtol=0.05, atol=0.0)


@pytest.mark.parametrize("heads", [1, 2])
def test_fusion_sums_to_the_bilinear_form(heads: int) -> None:
    torch.manual_seed(0)
    fusion, x, y = BilinearFusion(4, 6, heads), torch.randn(ROWS, 4), torch.randn(ROWS, 6)
    expected = torch.zeros(ROWS)
    for b in range(ROWS):
        for h in range(heads):
            for i in range(4 // heads):
                for j in range(6 // heads):
                    left, right = x[b, h * (4 // heads) + i], y[b, h * (6 // heads) + j]
                    expected[b] += left * fusion.weight[h, i, j].detach() * right
    torch.testing.assert_close(fusion(x, y).detach().sum(dim=1), expected)


@pytest.mark.parametrize(("first", "second"), [(4, 6), (6, 4)])
def test_heads_that_do_not_divide_a_stream(first: int, second: int) -> None:
    with pytest.raises(ConfigError, match="3 heads do not divide a stream of width 4"):
        BilinearFusion(first, second, heads=3)


@pytest.mark.parametrize("form", FORMS)
def test_interaction_equals_fuxictr_with_its_weights(form: BilinearForm) -> None:
    peers = pytest.importorskip("fuxictr.pytorch.layers.interactions.bilinear_interaction")
    theirs = peers.BilinearInteractionV2(VECTORS, WIDTH, f"field_{form}")
    ours, v = BilinearInteraction(VECTORS, WIDTH, form), vectors()
    weight = theirs.bilinear_W.detach().reshape(-1, WIDTH, WIDTH)
    ours.load_state_dict({"weight": weight[: len(ours.weight)]})  # the last of "each" is never used
    torch.testing.assert_close(ours(v), theirs(v).flatten(1))


@pytest.mark.parametrize("form", FORMS)
def test_interaction_equals_torch_rechub_with_its_weights(form: BilinearForm) -> None:
    peers = pytest.importorskip("torch_rechub.basic.layers")
    theirs = peers.BiLinearInteractionLayer(WIDTH, VECTORS, f"field_{form}")
    ours, v = BilinearInteraction(VECTORS, WIDTH, form), vectors()
    weight = torch.stack([matrix.detach().T for matrix in theirs.parameters()])
    ours.load_state_dict({"weight": weight[: len(ours.weight)]})
    torch.testing.assert_close(ours(v), theirs(v).flatten(1))


def test_dot_products_equal_fuxictr() -> None:
    peers = pytest.importorskip("fuxictr.pytorch.layers")
    theirs = peers.InnerProductInteraction(VECTORS, output="inner_product")
    torch.testing.assert_close(DotProducts(VECTORS)(vectors()), theirs(vectors()))


@pytest.mark.parametrize("heads", [1, 2])
def test_fusion_equals_fuxictr_with_its_weights(heads: int) -> None:
    peers = pytest.importorskip("model_zoo.LongCTR.FinalMLP.FinalMLP")
    torch.manual_seed(0)
    theirs, ours = peers.InteractionAggregation(4, 6, num_heads=heads), BilinearFusion(4, 6, heads)
    ours.load_state_dict({"weight": theirs.w_xy.detach().reshape(ours.weight.shape)})
    x, y = torch.randn(ROWS, 4), torch.randn(ROWS, 6)
    expected = theirs(x, y) - theirs.w_x(x) - theirs.w_y(y)
    torch.testing.assert_close(ours(x, y).sum(dim=1, keepdim=True), expected)
