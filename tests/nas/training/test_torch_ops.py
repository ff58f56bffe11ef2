from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ortnas.nas.training.supernet import Supernet
from ortnas.nas.training.torch_ops import TorchOps, written_out_attention
from tests.nas.training.courses import make_batches, make_network


def operands(dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(3, 4, 11, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]
    mask = torch.arange(11) < torch.tensor([11, 5, 1])[:, None]
    return parts, mask[:, None, None, :]


@pytest.mark.parametrize("is_biased", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_attention_written_out_is_torchs_own_forward_and_backward(
    dtype: torch.dtype, tolerance: float, is_biased: bool
) -> None:
    ours, mask = operands(dtype)
    if is_biased:
        mask = torch.randn(4, 11, 11, generator=torch.Generator().manual_seed(2)).masked_fill(~mask, -1e9)
    theirs = [part.detach().float().requires_grad_() for part in ours]
    weights = torch.randn(3, 4, 11, 8, generator=torch.Generator().manual_seed(1))
    mixed, expected = written_out_attention(*ours, mask), F.scaled_dot_product_attention(*theirs, attn_mask=mask)
    assert mixed.dtype == dtype
    torch.testing.assert_close(mixed.float(), expected, atol=tolerance, rtol=tolerance)
    (mixed.float() * weights).sum().backward()
    (expected * weights).sum().backward()
    for part, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(part.grad.float(), other.grad, atol=3 * tolerance, rtol=3 * tolerance)


def test_the_softmax_of_attention_is_float32_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    types: list[torch.dtype] = []
    softmax = Tensor.softmax
    monkeypatch.setattr(Tensor, "softmax", lambda self, *dims: types.append(self.dtype) or softmax(self, *dims))
    parts, mask = operands(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = TorchOps({}).attend("layers/0", *(part.bfloat16() for part in parts), mask)
    assert types == [torch.float32]
    assert mixed.dtype == torch.bfloat16


def gradients(network: Supernet, sparse: bool) -> dict[str, Tensor]:
    batch = make_batches("embedding", 1)[0][0]
    network.zero_grad()
    network.look_up(batch["input_ids"], batch["token_type_ids"], sparse_gradient=sparse).square().sum().backward()
    return {name: tensor.grad for name, tensor in network.tensors.items() if tensor.grad is not None}


def test_a_sparse_gradient_of_the_word_table_is_the_dense_one() -> None:
    network = make_network("embedding")
    dense, sparse = gradients(network, False), gradients(network, True)
    assert dense.keys() == sparse.keys()
    assert sparse["embeddings.word"].is_sparse
    for name, gradient in dense.items():
        torch.testing.assert_close(sparse[name].to_dense(), gradient, msg=name)


def test_unit_embeddings_are_of_length_one_under_autocast_too() -> None:
    network = make_network("embedding")
    batch = make_batches("embedding", 1)[0][0]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        embeddings = network(batch, network.dimensions.full_subnet)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(8), atol=1e-6, rtol=0)
