"""The chunked loss against torch's own."""

import pytest
import torch
from torch import Tensor

from budwood.engine.loss import supervised_loss


def data(*, dtype: torch.dtype = torch.float64, count: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(count, 6, generator=generator, dtype=dtype).requires_grad_()
    head = torch.randn(13, 6, generator=generator, dtype=dtype).requires_grad_()
    return hidden, head, torch.randint(0, 13, (count,), generator=generator)


def plain(hidden: Tensor, head: Tensor, targets: Tensor, scale: float, softcap: float | None) -> Tensor:
    scores = hidden @ head.T * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    return torch.nn.functional.cross_entropy(scores, targets, reduction="sum")


@pytest.mark.parametrize("chunk", [1, 4, 11, 100, None])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, None), (1.0, 2.0), (1.7, 0.8)])
def test_loss_and_gradients_are_those_of_cross_entropy(chunk: int | None, scale: float, softcap: float | None) -> None:
    hidden, head, targets = data()
    found = supervised_loss(hidden, head, targets, scale=scale, softcap=softcap, chunk=chunk)
    wanted = plain(hidden, head, targets, scale, softcap)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    ours = torch.autograd.grad(found * 0.5, (hidden, head))
    theirs = torch.autograd.grad(wanted * 0.5, (hidden, head))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (1.7, 0.8)])
@pytest.mark.parametrize("frozen", [False, True])
def test_rows_in_the_place_of_the_head_s(chunk: int, scale: float, softcap: float | None, frozen: bool) -> None:
    hidden, head, targets = data()
    head = head.detach() if frozen else head
    ids, values = some_rows()
    assert set(ids.tolist()) & set(targets.tolist())
    found = supervised_loss(hidden, head, targets, scale=scale, softcap=softcap, chunk=chunk, rows=(ids, values))
    wanted = plain(hidden, head.index_copy(0, ids, values), targets, scale, softcap)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    inputs = (hidden, values) if frozen else (hidden, values, head)
    ours = torch.autograd.grad(found * 0.5, inputs)
    for mine, other in zip(ours, torch.autograd.grad(wanted * 0.5, inputs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-14)


def test_rows_alone_may_need_the_gradient() -> None:
    hidden, head, targets = data()
    ids, values = some_rows()
    found = supervised_loss(hidden.detach(), head.detach(), targets, rows=(ids, values))
    wanted = plain(hidden.detach(), head.detach().index_copy(0, ids, values), targets, 1.0, None)
    torch.testing.assert_close(*(torch.autograd.grad(loss, values)[0] for loss in (found, wanted)), rtol=1e-10, atol=1e-14)


def test_rows_in_bfloat16_stay_near_float32() -> None:
    """On the way that this machine takes: with its C kernels, if it has them."""
    hidden, head, targets = (tensor.detach() for tensor in data(dtype=torch.float32, count=200))
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        states = hidden.bfloat16().to(dtype).requires_grad_()
        ids, values = some_rows(dtype=torch.float32)
        loss = supervised_loss(states, head.bfloat16().to(dtype), targets, chunk=64, rows=(ids, values))
        found.append((loss.detach(), *torch.autograd.grad(loss, (states, values))))
        assert found[-1][2].dtype == torch.float32
    for narrow, wide in zip(*found, strict=True):
        assert float((narrow.float() - wide).norm() / wide.norm()) < 0.02


def some_rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    values = torch.randn(3, 6, generator=torch.Generator().manual_seed(4), dtype=dtype)
    return torch.tensor([2, 5, 11]), values.requires_grad_()


def test_gradcheck() -> None:
    hidden, head, targets = data(count=5)
    assert torch.autograd.gradcheck(
        lambda h, w: supervised_loss(h, w, targets, scale=0.7, softcap=1.5, chunk=2), (hidden, head)
    )


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head, targets = data()
    supervised_loss(hidden, head.detach(), targets).backward()  # type: ignore[no-untyped-call]  # torch has no types here
    assert hidden.grad is not None
    assert head.grad is None


def test_ignored_positions_count_nowhere() -> None:
    hidden, head, targets = data()
    marked = targets.clone()
    marked[[0, 4]] = -100
    found = supervised_loss(hidden, head, marked)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(hidden @ head.T, marked, reduction="sum"))
    (gradient,) = torch.autograd.grad(found, hidden)
    assert not gradient[[0, 4]].any()
    assert gradient[1].any()


def test_no_position_at_all_is_a_loss_of_zero() -> None:
    hidden, head, targets = data()
    assert float(supervised_loss(hidden[:0], head, targets[:0]).detach()) == 0.0


def test_a_target_outside_the_vocabulary_is_refused() -> None:
    hidden, head, targets = data()
    targets[2] = 13
    with pytest.raises(IndexError, match="the vocabulary has 13 tokens"):
        supervised_loss(hidden, head, targets)


def test_bfloat16_stays_near_float32() -> None:
    hidden, head, targets = data(dtype=torch.float32)
    narrow = supervised_loss(hidden.bfloat16(), head.bfloat16(), targets)
    assert narrow.dtype == torch.float32
    # bf16 keeps 8 bits: each logit, of size 2 to 5, is off by about 0.01.
    torch.testing.assert_close(narrow, supervised_loss(hidden, head, targets), rtol=0.02, atol=0)
