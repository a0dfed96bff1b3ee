"""Transformer-XL against its definition, written out, and against torch's own adaptive softmax."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm

from unstale.errors import ArgumentError
from unstale.tasks.models.adaptive import AdaptiveEmbedding, AdaptiveSoftmax, Vocabulary
from unstale.tasks.models.attention import RelativeAttention, distances
from unstale.tasks.models.language import WIKITEXT_CUTOFFS, for_text
from unstale.tasks.models.transformer_xl import Shape, TransformerXL

SMALL = Shape(layers=3, width=12, heads=2, head_width=5, inner=16, dropout=0.0, memory=4)


def model(shape: Shape = SMALL, vocabulary: Vocabulary | None = None) -> TransformerXL:
    torch.manual_seed(0)
    made = TransformerXL(vocabulary or Vocabulary(20), shape).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():  # at σ = 0.02 attention is nearly uniform, and shows little
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


def counted(vocabulary: Vocabulary, s: Shape) -> int:
    """The number of parameters, from the paper's equations."""
    widths = [s.width // vocabulary.div_val**band for band in range(len(vocabulary.bands))]
    tables = [(stop - start) * width for (start, stop), width in zip(vocabulary.bands, widths, strict=True)]
    # Each band's, and the head's own.
    projections = s.width * (sum(widths) + widths[0]) if vocabulary.div_val > 1 else 0
    bands = (len(widths) - 1) * (widths[0] + 1)
    attention = s.width * s.heads * s.head_width * 5 + 2 * s.width
    inner = 2 * s.width * s.inner + s.inner + s.width + 2 * s.width
    shared = 2 * s.heads * s.head_width
    found: int = sum(tables) + vocabulary.size + projections + bands + shared + s.layers * (attention + inner)
    return found


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_base_model_has_151_million_parameters() -> None:
    build, segment = for_text("transformer_xl", 267_735)
    with torch.device("meta"):
        base = build()
    assert size(base) == 151_107_538 == counted(Vocabulary(267_735, WIKITEXT_CUTOFFS), Shape())
    assert segment == 150


@pytest.mark.parametrize("vocabulary", [Vocabulary(256), Vocabulary(90, (10, 40)), Vocabulary(90, (10, 40), 2)])
def test_sizes_are_the_formulas(vocabulary: Vocabulary) -> None:
    assert size(TransformerXL(vocabulary, SMALL)) == counted(vocabulary, SMALL)


def test_initialisation_is_the_published() -> None:
    torch.manual_seed(0)
    made = TransformerXL(Vocabulary(4000, (1000,), 2), Shape(layers=1, width=128, inner=512))
    for name, value in ((name, parameter.detach()) for name, parameter in made.named_parameters()):
        if "bias" in name:
            assert not value.any(), name
        elif value.numel() > 1000:
            std = 0.01 if "projection" in name else 0.02
            assert float(value.std()) == pytest.approx(std, rel=0.1), name
            assert float(value.mean()) == pytest.approx(0.0, abs=std / 10), name
        elif "norm" in name:
            assert float(value.mean()) == pytest.approx(1.0, abs=0.01), name
            assert 0.01 < float(value.std()) < 0.03, name


def naive(block: RelativeAttention, x: Tensor, memory: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Section 3.3 of the paper, one query, key and head at a time."""
    batch, t, width = x.shape
    m, h, n = memory.shape[1], block.head_width, block.heads
    w_q, w_k, w_v = block.contents.weight.chunk(3)
    out = torch.zeros(batch, t, n * h, dtype=x.dtype)
    for b in range(batch):
        both = torch.cat([memory[b], x[b]])
        for head in range(n):
            rows = slice(head * h, (head + 1) * h)
            for i in range(t):
                query = w_q[rows] @ x[b, i]
                scores, values = [], []
                for j in range(m + i + 1):
                    angle = (m + i - j) / 10_000.0 ** (torch.arange(0, width, 2, dtype=x.dtype) / width)
                    r = block.positions.weight[rows] @ torch.cat([angle.sin(), angle.cos()])
                    key = w_k[rows] @ both[j]
                    scores.append(((query + u[head]) @ key + (query + v[head]) @ r) / math.sqrt(h))
                    values.append(w_v[rows] @ both[j])
                out[b, i, rows] = torch.stack(scores).softmax(0) @ torch.stack(values)
    return layer_norm(x + out @ block.output.weight.T, (width,), block.norm.weight, block.norm.bias)


@pytest.mark.parametrize("m", [0, 1, 5])
@pytest.mark.parametrize("t", [1, 4])
def test_attention_is_its_definition(m: int, t: int) -> None:
    torch.manual_seed(1)
    block = RelativeAttention(8, 2, 3, 0.0).double()
    x, memory = torch.randn(2, t, 8).double(), torch.randn(2, m, 8).double()
    u, v = torch.randn(2, 3).double(), torch.randn(2, 3).double()
    found = block(x, memory, distances(8, m + t, x), u, v)
    torch.testing.assert_close(found, naive(block, x, memory, u, v), rtol=1e-10, atol=1e-10)


def test_memory_of_everything_is_a_longer_context() -> None:
    net = model(Shape(**{**vars(SMALL), "memory": 12}))
    text = torch.randint(20, (2, 13))
    whole = net(text[:, :-1], text[:, 1:]).losses
    memory: tuple[Tensor, ...] = ()
    parts = []
    for start, stop in ((0, 5), (5, 6), (6, 12)):
        losses, memory = net(text[:, start:stop], text[:, start + 1 : stop + 1], *memory)
        parts.append(losses)
        assert memory[0].shape == (3, 2, stop, 12)
        assert not memory[0].requires_grad
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)


def last_losses(net: TransformerXL, text: Tensor, first: int, segments: int) -> Tensor:
    memory: tuple[Tensor, ...] = ()
    losses = torch.empty(0)
    for k in range(first, segments):
        losses, memory = net(text[:, 4 * k : 4 * k + 4], text[:, 4 * k + 1 : 4 * k + 5], *memory)
        assert memory[0].shape[2] == 4
    return losses


def test_memory_reaches_one_segment_further_with_every_layer() -> None:
    """With memory = target, a segment depends on as many before it as there are layers, and on none further back."""
    net = model()
    text = torch.randint(20, (2, 25))
    wanted = last_losses(net, text, 0, 6)
    torch.testing.assert_close(last_losses(net, text, 6 - 1 - 3, 6), wanted, rtol=1e-10, atol=1e-10)
    assert (last_losses(net, text, 6 - 3, 6) - wanted).abs().max() > 1e-6


def test_a_symbol_changes_nothing_before_it() -> None:
    net = model(vocabulary=Vocabulary(20, (5, 12)))
    text = torch.randint(20, (1, 8))
    other = text.clone()
    other[0, 5] = (other[0, 5] + 7) % 20
    one, two = (net.features(given)[0] for given in (text, other))
    torch.testing.assert_close(one[:, :5], two[:, :5], rtol=0, atol=1e-12)
    assert (one[:, 5:] - two[:, 5:]).abs().min(dim=2).values.max() > 0


def test_no_gradient_flows_into_memory() -> None:
    net = model()
    text = torch.randint(20, (1, 9))
    first = net(text[:, :4], text[:, 1:5])
    second = net(text[:, 4:8], text[:, 5:9], *first.memory)
    again = net(text[:, 4:8], text[:, 5:9], *(part.clone() for part in first.memory))
    found = torch.autograd.grad(second.losses.mean(), net.u)[0]
    torch.testing.assert_close(found, torch.autograd.grad(again.losses.mean(), net.u)[0])


def test_memory_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="memory must be"):
        model()(torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long), torch.zeros(3, 1, 4, 12))


def softmax(div_val: int) -> tuple[AdaptiveEmbedding, AdaptiveSoftmax]:
    torch.manual_seed(2)
    shared = AdaptiveEmbedding(Vocabulary(30, (6, 14), div_val), 8).double()
    made = AdaptiveSoftmax(shared).double()
    with torch.no_grad():
        for parameter in [*shared.parameters(), *made.parameters()]:
            parameter.normal_()
    return shared, made


@pytest.mark.parametrize("div_val", [1, 2])
def test_adaptive_softmax_is_torchs(div_val: int) -> None:
    """With equal weights; torch's tails have no bias, and always a projection."""
    shared, ours = softmax(div_val)
    theirs = nn.AdaptiveLogSoftmaxWithLoss(8, 30, [6, 14], div_value=float(div_val), head_bias=True).double()
    assert ours.band_weight is not None
    assert ours.band_bias is not None
    with torch.no_grad():
        for bias in list(ours.biases)[1:]:
            bias.zero_()
        head = torch.cat([shared.tables[0], ours.band_weight])
        theirs.head.weight.copy_(head if ours.projection is None else head @ ours.projection.T)
        theirs.head.bias.copy_(torch.cat([ours.biases[0], ours.band_bias]))
        for number, tail in enumerate(theirs.tail, 1):
            down, out = list(tail.children())
            assert isinstance(down, nn.Linear)
            assert isinstance(out, nn.Linear)
            down.weight.copy_(shared.projections[number].T if div_val > 1 else torch.eye(8))
            out.weight.copy_(shared.tables[number])
    hidden, targets = torch.randn(40, 8).double(), torch.arange(40) % 30
    output, loss = theirs(hidden, targets)
    torch.testing.assert_close(-ours(hidden, targets, shared), output, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours(hidden, targets, shared).mean(), loss, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.log_probabilities(hidden, shared), theirs.log_prob(hidden))


@pytest.mark.parametrize("div_val", [1, 2])
def test_adaptive_softmax_is_a_distribution(div_val: int) -> None:
    shared, ours = softmax(div_val)
    hidden, targets = torch.randn(9, 8).double(), torch.tensor([0, 5, 6, 13, 14, 29, 1, 7, 20])
    dense = ours.log_probabilities(hidden, shared)
    torch.testing.assert_close(dense.exp().sum(1), torch.ones(9).double())
    torch.testing.assert_close(-ours(hidden, targets, shared), dense.gather(1, targets[:, None])[:, 0])


def test_without_cutoffs_it_is_a_plain_softmax() -> None:
    shared = AdaptiveEmbedding(Vocabulary(11), 6)
    ours = AdaptiveSoftmax(shared)
    hidden, targets = torch.randn(7, 6), torch.arange(7)
    wanted = cross_entropy(hidden @ shared.tables[0].T + ours.biases[0], targets, reduction="none")
    torch.testing.assert_close(ours(hidden, targets, shared), wanted)


@pytest.mark.parametrize("div_val", [1, 2])
def test_embeddings_are_scaled_rows_of_their_band(div_val: int) -> None:
    shared = AdaptiveEmbedding(Vocabulary(30, (6, 14), div_val), 8)
    found = shared(torch.tensor([[5, 6], [13, 29]]))
    for place, band, row in (((0, 0), 0, 5), ((0, 1), 1, 0), ((1, 0), 1, 7), ((1, 1), 2, 15)):
        wanted = shared.tables[band][row] if div_val == 1 else shared.projections[band] @ shared.tables[band][row]
        torch.testing.assert_close(found[place], wanted * math.sqrt(8))


def test_tables_and_tail_projections_are_shared_with_the_softmax() -> None:
    net = model(vocabulary=Vocabulary(30, (6, 14), 2))
    net(torch.full((1, 2), 3), torch.full((1, 2), 20)).losses.mean().backward()
    for name, parameter in net.named_parameters():
        if name in ("embedding.tables.2", "embedding.projections.2", "softmax.biases.2"):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    assert {name for name, _ in net.named_parameters() if name.startswith("softmax")} == {
        "softmax.biases.0",
        "softmax.biases.1",
        "softmax.biases.2",
        "softmax.band_weight",
        "softmax.band_bias",
        "softmax.projection",
    }


@pytest.mark.parametrize("cutoffs", [(0,), (5, 5), (30,), (7, 3)])
def test_cutoffs_outside_the_vocabulary_are_refused(cutoffs: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="cutoffs must ascend"):
        Vocabulary(30, cutoffs)


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"dropout": 1.0}, {"memory": -1}])
def test_impossible_shapes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        Shape(**wrong)  # type: ignore[arg-type]
