"""Networks as people write them, rebuilt small: what the population has to run as it comes."""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TabularModel(nn.Module):
    """fastai's network for tables: embeddings, normalised numbers, and blocks with a ReLU in place."""

    def __init__(self, sizes: Sequence[tuple[int, int]], n_numbers: int, outputs: int, layers: Sequence[int]):
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(n, width) for n, width in sizes)
        self.emb_drop, self.bn_cont = nn.Dropout(0.1), nn.BatchNorm1d(n_numbers)
        widths = [sum(width for _, width in sizes) + n_numbers, *layers]
        blocks: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            blocks += [nn.Linear(before, after, bias=False), nn.ReLU(inplace=True), nn.BatchNorm1d(after)]
            blocks.append(nn.Dropout(0.2, inplace=True))
        self.layers = nn.Sequential(*blocks, nn.Linear(widths[-1], outputs))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Return logits of categories `[B, columns]` and numbers `[B, columns]`."""
        embedded = [e(categories[:, i]) for i, e in enumerate(self.embeds)]
        return self.layers(torch.cat([self.emb_drop(torch.cat(embedded, 1)), self.bn_cont(numbers)], 1))


class BatchEnsembleLinear(nn.Module):
    """A linear layer of k submodels that share its weight: each scales inputs and outputs in its own way."""

    def __init__(self, before: int, after: int, k: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before).uniform_(-(before**-0.5), before**-0.5))
        self.r, self.s = nn.Parameter(torch.randn(k, before).sign()), nn.Parameter(torch.ones(k, after))
        self.bias = nn.Parameter(torch.empty(k, after).uniform_(-(before**-0.5), before**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, k, after]` of `[B, k, before]`."""
        x = x * self.r
        x = x @ self.weight.T
        x = x * self.s
        return x + self.bias


class TabM(nn.Module):
    """TabM: one network of k submodels, here with the mean of their logits; columns join by `column_stack`."""

    def __init__(self, n_numbers: int, cardinalities: Sequence[int], outputs: int, width: int = 64, k: int = 8):
        super().__init__()
        self.k, self.cardinalities = k, list(cardinalities)
        inputs = n_numbers + sum(cardinalities)
        self.first, self.second = BatchEnsembleLinear(inputs, width, k), BatchEnsembleLinear(width, width, k)
        self.dropout = nn.Dropout(0.1)
        self.weight = nn.Parameter(torch.randn(k, width, outputs) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(k, outputs))

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Return logits of numbers `[B, columns]` and categories `[B, columns]`."""
        columns = zip(self.cardinalities, categories.unbind(-1), strict=True)
        encoded = [F.one_hot(column, n).to(numbers.dtype) for n, column in columns]
        x = torch.column_stack([numbers, *encoded]).unsqueeze(-2).expand(-1, self.k, -1)
        x = self.dropout(F.relu(self.first(x)))
        x = self.dropout(F.relu(self.second(x)))
        return torch.einsum("bki,kio->bko", x, self.weight).add_(self.bias).mean(1)


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU, as in every transformer."""

    def __init__(self, width: int, dropout: float):
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout))


class SelfAttention(nn.Module):
    """Multi-head self-attention by `F.scaled_dot_product_attention`."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool = False):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads
        self.dropout, self.causal, self.resid_drop = dropout, causal, nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return `[B, T, width]` of the same; the mask is `[B, 1, 1, T]`."""
        B, T, C = x.size()
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, is_causal=self.causal)
        return self.resid_drop(self.proj(y.transpose(1, 2).contiguous().view(B, T, C)))


class DropPath(nn.Module):
    """timm's stochastic depth: a residual branch is left out for a row at random, by random numbers of its own."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch, or zeros for a row."""
        if self.p == 0.0 or not self.training:
            return x
        keep = 1 - self.p
        random = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        if keep > 0.0:
            random.div_(keep)
        return x * random


class Block(nn.Module):
    """A transformer's block with the normalisation first."""

    def __init__(self, width: int, heads: int, dropout: float, drop_path: float = 0.0, causal: bool = False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = SelfAttention(width, heads, dropout, causal), FeedForward(width, dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, T, width]` of the same."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """ViT: patches by a convolution, a class token, blocks whose drop path grows with depth."""

    def __init__(
        self, side: int, patch: int, outputs: int, width: int = 64, depth: int = 4, heads: int = 4, drop_path=0.0
    ):
        super().__init__()
        n = (side // patch) ** 2
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        self.cls_token, self.pos_embed = (
            nn.Parameter(torch.zeros(1, 1, width)),
            nn.Parameter(torch.randn(1, n + 1, width)),
        )
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.Sequential(*(Block(width, heads, 0.1, rate) for rate in rates))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of images `[B, 3, side, side]`."""
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class NanoGPT(nn.Module):
    """nanoGPT, its head tied to its embedding; classifies by the last position."""

    def __init__(self, words: int, length: int, width: int = 64, depth: int = 4, heads: int = 4):
        super().__init__()
        self.wte, self.wpe, self.drop = nn.Embedding(words, width), nn.Embedding(length, width), nn.Dropout(0.1)
        self.h = nn.ModuleList(Block(width, heads, 0.1, causal=True) for _ in range(depth))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        nn.init.normal_(self.wte.weight, std=0.02)
        self.lm_head.weight = self.wte.weight

    def forward(self, idx: Tensor) -> Tensor:
        """Return the logits of the word after each row's last, `[B, words]`."""
        pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
        x = self.drop(self.wte(idx) + self.wpe(pos))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x)[:, -1])


class GPT2(nn.Module):
    """GPT-2 for classification as transformers writes it: reads whether rows are padded, takes each row's last word."""

    def __init__(self, words: int, length: int, outputs: int, width: int = 64, depth: int = 4, heads: int = 4):
        super().__init__()
        self.wte, self.wpe, self.drop = nn.Embedding(words, width), nn.Embedding(length, width), nn.Dropout(0.1)
        self.h = nn.ModuleList(Block(width, heads, 0.1, causal=True) for _ in range(depth))
        self.ln_f, self.score, self.pad_token_id = nn.LayerNorm(width), nn.Linear(width, outputs, bias=False), 0

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return logits of words `[B, T]`, of which 0 pads."""
        pos = torch.arange(input_ids.size(1), device=input_ids.device).unsqueeze(0)
        x = self.drop(self.wte(input_ids) + self.wpe(pos))
        for block in self.h:
            x = block(x)
        logits = self.score(self.ln_f(x))
        padding = input_ids == self.pad_token_id
        if padding.sum().item() == 0:
            return logits[:, -1]
        last = (torch.arange(input_ids.size(1), device=input_ids.device) * ~padding).argmax(-1)
        return logits[torch.arange(len(input_ids), device=input_ids.device), last]


class BERT(nn.Module):
    """BERT for classification as transformers writes it: no mask for attention where the batch's is all ones."""

    def __init__(self, words: int, length: int, outputs: int, width: int = 64, depth: int = 4, heads: int = 4):
        super().__init__()
        self.words, self.positions, self.types = (
            nn.Embedding(words, width, 0),
            nn.Embedding(length, width),
            nn.Embedding(2, width),
        )
        self.norm, self.dropout = nn.LayerNorm(width, eps=1e-12), nn.Dropout(0.1)
        self.attention = nn.ModuleList(SelfAttention(width, heads, 0.1) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-12) for _ in range(2 * depth))
        self.outputs = nn.ModuleList(FeedForward(width, 0.1) for _ in range(depth))
        self.pooler, self.classifier = nn.Linear(width, width), nn.Linear(width, outputs)
        self.register_buffer("position_ids", torch.arange(length).expand((1, -1)), persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return logits of words `[B, T]`, of which 0 pads."""
        types = torch.zeros_like(input_ids)
        x = self.words(input_ids) + self.positions(self.position_ids[:, : input_ids.size(1)]) + self.types(types)
        x = self.dropout(self.norm(x))
        attention_mask = (input_ids != 0).long()
        mask = None
        if not torch.all(attention_mask == 1):
            mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for i, (attention, output) in enumerate(zip(self.attention, self.outputs, strict=True)):
            x = self.norms[2 * i](x + attention(x, mask))
            x = self.norms[2 * i + 1](x + output(x))
        return self.classifier(self.dropout(torch.tanh(self.pooler(x[:, 0]))))


class FTTransformer(nn.Module):
    """FT-Transformer: a token for each number, and one for the class."""

    def __init__(self, n_numbers: int, outputs: int, width: int = 64, depth: int = 3, heads: int = 4):
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(n_numbers, width) * 0.1),
            nn.Parameter(torch.zeros(n_numbers, width)),
        )
        self.cls = nn.Parameter(torch.randn(width) * 0.1)
        self.blocks = nn.Sequential(*(Block(width, heads, 0.1) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of numbers `[B, columns]`."""
        tokens = x[..., None] * self.weight + self.bias
        tokens = torch.cat([self.cls.expand(len(x), 1, -1), tokens], 1)
        return self.head(F.relu(self.norm(self.blocks(tokens)[:, 0])))


class GraphNetwork(nn.Module):
    """Message passing on one fixed graph: messages are added up at their targets."""

    def __init__(self, nodes: int, features: int, outputs: int, width: int = 32, depth: int = 3):
        super().__init__()
        self.lift, self.head = nn.Linear(features, width), nn.Linear(width, outputs)
        self.message = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.register_buffer("source", torch.arange(nodes).repeat(2))
        self.register_buffer("target", torch.cat([torch.arange(nodes).roll(1), torch.arange(nodes).roll(-1)]))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of graphs `[B, nodes, features]`."""
        h = F.relu(self.lift(x))
        for message in self.message:
            sent = F.relu(message(torch.cat([h[:, self.source], h[:, self.target]], -1)))
            h = h + torch.zeros_like(h).index_add_(1, self.target, sent)
        return self.head(h.mean(1))


class Recurrent(nn.Module):
    """An LSTM, GRU or RNN over words; classifies by the last state."""

    def __init__(self, words: int, outputs: int, kind: type[nn.RNNBase] = nn.LSTM, width: int = 64, **options):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(words, width), kind(width, width, batch_first=True, **options)
        self.head = nn.Linear(width * (1 + self.rnn.bidirectional), outputs)

    def forward(self, words: Tensor) -> Tensor:
        """Return logits of words `[B, T]`."""
        return self.head(self.rnn(self.embedding(words))[0][:, -1])


class BasicBlock(nn.Module):
    """A residual block of two convolutions, with its ReLUs in place."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.relu, self.downsample = nn.ReLU(inplace=True), nn.Identity()
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, after, ...]` of `[B, before, ...]`."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return self.relu(out)


class ResNet18(nn.Module):
    """ResNet18 for small images; `width` channels at first, 64 in the original."""

    def __init__(self, outputs: int, width: int = 64, blocks: int = 2, stages: int = 4):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        layers: list[nn.Module] = []
        for i in range(stages):
            for j in range(blocks):
                before = width * 2 ** max(0, i - (j == 0))
                layers.append(BasicBlock(before, width * 2**i, 2 if i and not j else 1))
        self.layers, self.fc = nn.Sequential(*layers), nn.Linear(width * 2 ** (stages - 1), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of images `[B, 3, H, W]`."""
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


class UNet(nn.Module):
    """A U-Net of two levels; here with one logit vector an image, by the mean over its pixels."""

    def __init__(self, outputs: int, width: int = 16):
        super().__init__()
        self.down1, self.down2 = self._double(3, width), self._double(width, 2 * width)
        self.bottom = self._double(2 * width, 4 * width)
        self.up2, self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.out2, self.out1 = self._double(4 * width, 2 * width), self._double(2 * width, width)
        self.head = nn.Conv2d(width, outputs, 1)

    @staticmethod
    def _double(before: int, after: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for n in (before, after):
            layers += [nn.Conv2d(n, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of images `[B, 3, H, W]`."""
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        c = self.out2(torch.cat([self.up2(c), b], 1))
        c = self.out1(torch.cat([self.up1(c), a], 1))
        return self.head(c).mean((2, 3))
