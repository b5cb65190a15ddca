"""The C products against float64."""

from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from tests.engine.kernels import take
from tests.engine.native.test_attention import off
from torch import Tensor

from budwood.engine.lora.pairs import RunPair, join_pairs
from budwood.engine.native.products import Beside, multiplies, multiply, pair_gradient, product

# Rounding every result alone gives 0.0017.
ROUNDED = 0.0025


@pytest.fixture(autouse=True, params=["AVX2", "AMX"])
def which(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    take(request.param, monkeypatch)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def apart(*shape: int, seed: int) -> Tensor:
    """Rows further apart than they are long."""
    return some(shape[0], shape[1] + 24, seed=seed)[:, 8 : 8 + shape[1]]


def operands(tokens: int, d_in: int, outs: tuple[int, ...], ranks: int, *, back: bool) -> dict[str, Any]:
    d_out = sum(outs)
    read, written = (d_out, d_in) if back else (d_in, d_out)
    given: dict[str, Any] = {
        "x": apart(tokens, read, seed=1),
        "weights": [some(out, d_in, seed=2 + number) for number, out in enumerate(outs)],
        "rest": apart(tokens, written, seed=12),
        "back": back,
    }
    if ranks:
        given |= {
            "a": some(ranks, d_in, seed=10),
            "b": some(d_out, ranks, seed=11) * 0.3,
            "h": torch.empty(tokens, ranks).bfloat16(),
        }
    if not back:
        given["bias"] = some(d_out, seed=13)
    return given


def made(given: dict[str, Any]) -> Tensor:
    y = torch.full_like(given["rest"], float("nan"))
    into(y, given)
    return y


def into(y: Tensor, given: dict[str, Any]) -> None:
    others = {name: operand for name, operand in given.items() if name not in ("a", "b", "h")}
    product(y, **others, pair=Beside(given["a"], given["b"], given["h"]) if "a" in given else None)


def wanted(given: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """The result and h, whose rounding is part of what is wanted."""
    x, weight = given["x"].double(), torch.cat(given["weights"]).double()
    y = given["rest"].double() + (x @ weight if given["back"] else x @ weight.T)
    if "bias" in given:
        y += given["bias"].double()
    if "a" not in given:
        return y, None
    a, b = given["a"].double(), given["b"].double()
    h = x @ (b if given["back"] else a.T)
    return y + given["h"].double() @ (a if given["back"] else b.T), h


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(
    ("tokens", "d_in", "outs", "ranks"),
    [
        (1, 32, (32,), 0),
        (33, 50, (33, 70), 5),
        (70, 576, (576, 192, 192), 48),
        (100, 64, (300,), 16),
        (64, 100, (96, 31, 1), 33),
        # Pieces along the inner width, and more columns than one slab.
        (40, 2500, (900, 2600), 24),
        (2100, 40, (40,), 8),
    ],
)
def test_products_with_pairs_are_those_of_float64(
    tokens: int, d_in: int, outs: tuple[int, ...], ranks: int, back: bool
) -> None:
    given = operands(tokens, d_in, outs, ranks, back=back)
    found = made(given)
    exact, h = wanted(given)
    assert off(found, exact) < ROUNDED
    if h is not None:
        assert off(given["h"], h) < ROUNDED


@pytest.mark.parametrize("back", [False, True])
def test_neither_threads_nor_company_change_a_bit(back: bool) -> None:
    given = operands(150, 700, (300, 500), 20, back=back)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append((made(given), given["h"].clone()))
    finally:
        torch.set_num_threads(before)
    # h alone, as it is made where the results are not wanted again.
    alone = torch.empty_like(given["h"])
    product(alone, given["x"], [given["b"] if back else given["a"]], back=back)
    assert all(torch.equal(y, results[0][0]) and torch.equal(h, results[0][1]) for y, h in [*results, (results[0][0], alone)])


def test_the_rest_may_lie_where_the_result_goes() -> None:
    given = operands(45, 64, (80,), 4, back=True)
    there = given["rest"].clone()
    into(there, given | {"rest": there})
    assert torch.equal(there, made(given))


def test_a_number_that_is_none_stays_in_its_row() -> None:
    given = operands(40, 64, (80,), 4, back=False)
    given["x"][7, 3] = float("nan")
    found = made(given)
    assert bool(found[7].isnan().all())
    assert int(found.isnan().sum()) == found.shape[1]


def test_joined_pairs_add_what_each_adds() -> None:
    outs, d_in = (48, 16, 32), 64
    columns = [slice(*ends) for ends in pairwise(accumulate(outs, initial=0))]
    pairs = [
        RunPair(
            0, None, some(r, d_in, seed=r).float(), some(outs[place], r, seed=9 + r).float(), scaling, columns=columns[place]
        )
        for place, r, scaling in [(0, 4, 2.0), (2, 7, 0.3)]
    ]
    x = some(20, d_in)
    joint = join_pairs(x, pairs, sum(outs))
    assert joint is not None
    assert joint.b is not None
    added = x.double() @ joint.a.double().T @ joint.b.double().T
    exact = torch.zeros_like(added)
    for pair in pairs:
        exact[:, pair.columns] += pair.scaling * (x.double() @ pair.a.double().T @ pair.b.double().T)
    assert off(added, exact) < ROUNDED
    assert float(added[:, columns[1]].abs().max()) == 0
    assert join_pairs(x, [], 96) is None
    assert join_pairs(x, [*pairs, RunPair(3, 9, pairs[0].a, pairs[0].b, 1.0)], 96) is None


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("tokens", [1, 16, 90])
def test_a_product_alone_is_that_of_float64_however_the_weight_lies(tokens: int, back: bool, turned: bool) -> None:
    weight = some(300, 70, seed=3)
    weight = weight.T.contiguous().T if turned else weight
    x, bias = some(tokens, 300 if back else 70, seed=4), some(70 if back else 300, seed=5)
    exact = x.double() @ (weight if back else weight.T).double()
    out = torch.full((tokens, len(bias)), float("nan")).bfloat16()
    assert multiply(x, weight, back=back, out=out) is out
    assert off(out, exact) < ROUNDED
    assert off(multiply(x, weight, back=back, bias=bias), exact + bias.double()) < ROUNDED


@pytest.mark.parametrize("shape", [(0, 32), (32, 0)])
def test_a_weight_without_rows_or_columns_gives_what_torch_gives(shape: tuple[int, int]) -> None:
    weight = some(*shape)
    for back in (False, True):
        x = some(5, shape[0] if back else shape[1])
        assert torch.equal(multiply(x, weight, back=back), x @ (weight if back else weight.T))


def test_a_product_whose_gradient_is_wanted_has_one() -> None:
    x, weight = some(5, 32).requires_grad_(), some(48, 32)
    torch.autograd.backward(multiply(x, weight).float().sum())
    assert x.grad is not None
    assert off(x.grad, weight.double().sum(0).expand(5, 32)) < ROUNDED


def test_operands_of_another_kind_are_refused() -> None:
    given = operands(4, 64, (80,), 4, back=False)
    for wrong in ({"weights": [given["weights"][0].float()]}, {"a": given["a"].T.contiguous().T}, {"x": given["x"][:, 1:]}):
        with pytest.raises(AssertionError):
            made(given | wrong)


def test_other_dtypes_and_columns_that_are_apart_are_not_taken() -> None:
    x = some(8, 16)
    assert multiplies(x, x[:, :4])
    assert not multiplies(x.float())
    assert not multiplies(x.T)


@pytest.mark.parametrize(("tokens", "ranks", "width"), [(1, 1, 1), (37, 5, 70), (300, 48, 1000), (129, 16, 32), (0, 4, 8)])
def test_pair_gradients_are_those_of_float64_whatever_the_number_of_threads(tokens: int, ranks: int, width: int) -> None:
    h, x = apart(tokens, ranks, seed=1), apart(tokens, width, seed=2)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(pair_gradient(h, x))
    finally:
        torch.set_num_threads(before)
    # Products of bfloat16 numbers are exact in float32; only their sum rounds.
    assert torch.allclose(results[0].double(), h.double().T @ x.double(), atol=1e-4)
    results.append(pair_gradient(h, x, transposed=True).T)
    assert all(torch.equal(result, results[0]) for result in results)
