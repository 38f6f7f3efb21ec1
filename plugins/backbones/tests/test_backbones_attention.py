"""Packed attention equals attention of each sample alone, whichever way it is computed."""

import pytest
import torch
from mgzoo_backbones import attention
from mgzoo_backbones.attention import Segments, attend

CPU = torch.device("cpu")


def alone(q, k, v, queries, keys):
    """Reference: softmax(q k / sqrt(K)) v of each sample, in float64."""
    outputs = []
    for q_SHK, k_LHK, v_LHK in zip(q.split(queries), k.split(keys), v.split(keys)):
        logits = torch.einsum("shk,lhk->hsl", q_SHK.double(), k_LHK.double()) * q.shape[-1] ** -0.5
        outputs.append(torch.einsum("hsl,lhk->shk", logits.softmax(-1), v_LHK.double()))
    return torch.cat(outputs)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("largest", [0, 2**26])
@pytest.mark.parametrize(
    "queries, keys",
    [((6, 6, 6), (6, 6, 6)), ((5, 5, 5), (4, 1, 7)), ((5, 1, 3), (2, 9, 4)), ((5, 1, 3), (4, 4, 4)), ((7,), (3,))],
)
def test_packed_equals_each_sample_alone(queries, keys, largest, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(attention, "LARGEST_EXPLICIT", largest)
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(n), 2, 16).to(dtype).requires_grad_() for n in (queries, keys, keys))
    y = attend(q, k, v, Segments(lengths=queries, device=CPU), Segments(lengths=keys, device=CPU))
    expected = alone(q, k, v, queries, keys)
    torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=tolerance)
    weights = torch.randn_like(expected)
    grads = torch.autograd.grad((y.double() * weights).sum(), (q, k, v))
    for grad, reference in zip(grads, torch.autograd.grad((expected * weights).sum(), (q, k, v))):
        torch.testing.assert_close(grad.double(), reference.double(), atol=2 * tolerance, rtol=2 * tolerance)


def test_other_samples_are_out_of_sight():
    torch.manual_seed(0)
    q, k, v = torch.randn(6, 1, 8), torch.randn(7, 1, 8), torch.randn(7, 1, 8)
    queries, keys = Segments(lengths=(3, 3), device=CPU), Segments(lengths=(3, 4), device=CPU)
    before = attend(q, k, v, queries, keys)
    v[3:] += 1
    after = attend(q, k, v, queries, keys)
    assert torch.equal(before[:3], after[:3])
    assert not torch.isclose(before[3:], after[3:]).any()


def test_segments_say_where_tokens_belong():
    segments = Segments(lengths=(2, 0, 3), device=CPU)
    assert not segments.uniform
    assert segments.offsets.tolist() == [0, 2, 2, 5] and segments.offsets.dtype == torch.int32
    assert segments.rows.tolist() == [0, 0, 2, 2, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_variable_length_kernel_agrees():
    torch.manual_seed(0)
    queries, keys = (5, 1, 30), (2, 9, 4)
    q, k, v = (torch.randn(sum(n), 2, 64, device="cuda", dtype=torch.bfloat16) for n in (queries, keys, keys))
    y = attend(q, k, v, Segments(lengths=queries, device=q.device), Segments(lengths=keys, device=q.device))
    torch.testing.assert_close(y.double(), alone(q, k, v, queries, keys), atol=3e-2, rtol=3e-2)
