"""Packed attention equals attention of each sample alone, whichever way it is computed."""

import math

import pytest
import torch

from mgzoo_backbones import chunked_attention
from mgzoo_backbones.attention import Segments, attend
from mgzoo_backbones.chunked_attention import ChunkedAttention, chunks

CPU = torch.device("cpu")


def alone(q, k, v, queries, keys):
    """Reference: softmax(q k / sqrt(K)) v of each sample, in float64."""
    outputs = []
    for q_SHK, k_LHK, v_LHK in zip(q.split(queries), k.split(keys), v.split(keys)):
        logits = torch.einsum("shk,lhk->hsl", q_SHK.double(), k_LHK.double()) * q.shape[-1] ** -0.5
        outputs.append(torch.einsum("hsl,lhk->shk", logits.softmax(-1), v_LHK.double()))
    return torch.cat(outputs)


@pytest.mark.parametrize("dtype, tolerance, way", [(torch.float32, 1e-5, "fp32"), (torch.bfloat16, 3e-2, "fp32"), (torch.bfloat16, 3e-2, "bf16")])
@pytest.mark.parametrize("at_once, kept", [(2**20, 2**26), (2**20, 0), (70, 2**26), (9, 0)])
@pytest.mark.parametrize(
    "queries, keys",
    [((6, 6, 6), (6, 6, 6)), ((5, 5, 5), (4, 1, 7)), ((5, 1, 3), (2, 9, 4)), ((5, 1, 3), (4, 4, 4)), ((7,), (3,))],
)
def test_packed_equals_each_sample_alone(queries, keys, at_once, kept, dtype, tolerance, way, monkeypatch):
    """way: what the CPU is taken to compute well, which chooses between chunked attention and the fused kernel."""
    monkeypatch.setenv("MGZOO_PRECISION", way)
    monkeypatch.setattr(chunked_attention, "CHUNK_LOGITS", at_once)
    monkeypatch.setattr(chunked_attention, "MAX_SAVED_WEIGHTS", kept)
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(n), 2, 16).to(dtype).requires_grad_() for n in (queries, keys, keys))
    y = attend(q, k, v, Segments(lengths=queries, device=CPU), Segments(lengths=keys, device=CPU))
    expected = alone(q, k, v, queries, keys)
    torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=tolerance)
    weights = torch.randn_like(expected)
    grads = torch.autograd.grad((y.double() * weights).sum(), (q, k, v))
    for grad, reference in zip(grads, torch.autograd.grad((expected * weights).sum(), (q, k, v))):
        torch.testing.assert_close(grad.double(), reference.double(), atol=2 * tolerance, rtol=2 * tolerance)


@pytest.mark.parametrize("kept", [2**26, 0])
@pytest.mark.parametrize("at_once", [2**20, 12, 5])
@pytest.mark.parametrize("queries, keys, masked", [((3, 3), (4, 4), True), ((2, 2, 1), (3, 3, 1), False)])
def test_chunked_attention_gradients_are_its_derivatives(queries, keys, masked, at_once, kept, monkeypatch):
    monkeypatch.setattr(chunked_attention, "CHUNK_LOGITS", at_once)
    monkeypatch.setattr(chunked_attention, "MAX_SAVED_WEIGHTS", kept)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # sums of chunks, or differences would drown in float32
    torch.manual_seed(0)
    bias = torch.tensor([[0.0, 1.0, -torch.inf, 0.0], [0.0, -1.0, 0.0, 0.0]], dtype=torch.float64) if masked else None
    q, k, v = (torch.randn(sum(n), 2, 2, dtype=torch.float64, requires_grad=True) for n in (queries, keys, keys))
    assert torch.autograd.gradcheck(lambda *qkv: ChunkedAttention.apply(*qkv, queries, keys, bias), (q, k, v))


@pytest.mark.parametrize("queries, keys", [((6,) * 50, (7,) * 50), ((40, 40, 1), (30, 30, 2)), ((900,), (3,)), ((2, 3), (400, 2))])
@pytest.mark.parametrize("at_once", [2**20, 1000, 100, 1])
def test_chunks_cover_every_logit_once(queries, keys, at_once, monkeypatch):
    monkeypatch.setattr(chunked_attention, "CHUNK_LOGITS", at_once)
    heads, seen = 3, torch.zeros(3, sum(queries), sum(keys))
    samples = [torch.arange(len(n)).repeat_interleave(torch.tensor(n)) for n in (queries, keys)]
    for chunk in chunks(queries, keys, heads):
        assert math.prod(chunk.shape) <= max(at_once, max(keys))
        rows, columns = samples[0][chunk.rows], samples[1][chunk.columns]
        assert set(rows.tolist()) == set(columns.tolist()) == set(range(chunk.samples.start, chunk.samples.stop))
        seen[chunk.heads, chunk.rows, chunk.columns] += rows[:, None] == columns
    assert torch.equal(seen, (samples[0][:, None] == samples[1]).expand(heads, -1, -1).float())


def test_chunked_attention_keeps_its_weights_only_for_a_backward_pass():
    q = torch.randn(6, 1, 4, dtype=torch.bfloat16)
    kept = []
    for needed in (False, True):
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()), lambda x: x):
            ChunkedAttention.apply(q.clone().requires_grad_(needed), q, q, (3, 3), (3, 3), None)
    assert kept == [24, 24, 24, 18]


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_variable_length_kernel_agrees():
    torch.manual_seed(0)
    queries, keys = (5, 1, 30), (2, 9, 4)
    q, k, v = (torch.randn(sum(n), 2, 64, device="cuda", dtype=torch.bfloat16) for n in (queries, keys, keys))
    y = attend(q, k, v, Segments(lengths=queries, device=q.device), Segments(lengths=keys, device=q.device))
    torch.testing.assert_close(y.double(), alone(q, k, v, queries, keys), atol=3e-2, rtol=3e-2)
