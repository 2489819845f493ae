"""The demonstration model in torch: Mixtral's layout (Jiang et al. 2024,
arXiv:2401.04088), in the conventions of a GGUF file of architecture "llama".

RoPE turns the pairs (2i, 2i + 1), so q and k go into the file as they are.
The router picks two experts of eight; their weights are the softmax over the
two chosen logits. The output matrix is the embedding."""
import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Config:
    n_vocab: int = 3072
    n_ctx: int = 512
    n_embd: int = 256
    n_layer: int = 6
    n_head: int = 8
    n_head_kv: int = 4
    n_ff: int = 256  # of one expert
    n_expert: int = 8
    n_used: int = 2
    eps: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head_dim(self):
        return self.n_embd // self.n_head


class RMSNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        r = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return x * r * self.weight


def rope_table(c):
    i = torch.arange(c.head_dim // 2, dtype=torch.float64)
    f = c.rope_base ** (-2 * i / c.head_dim)
    angle = torch.arange(c.n_ctx, dtype=torch.float64)[:, None] * f[None, :]
    return angle.cos().float(), angle.sin().float()  # [n_ctx, head_dim / 2]


def rotate(x, cos, sin):
    """x [batch, head, t, head_dim]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q = nn.Linear(c.n_embd, c.n_head * c.head_dim, bias=False)
        self.k = nn.Linear(c.n_embd, c.n_head_kv * c.head_dim, bias=False)
        self.v = nn.Linear(c.n_embd, c.n_head_kv * c.head_dim, bias=False)
        self.o = nn.Linear(c.n_head * c.head_dim, c.n_embd, bias=False)

    def forward(self, x, cos, sin, mask):
        c, (n, t, _) = self.c, x.shape
        q = self.q(x).view(n, t, c.n_head, c.head_dim).transpose(1, 2)
        k = self.k(x).view(n, t, c.n_head_kv, c.head_dim).transpose(1, 2)
        v = self.v(x).view(n, t, c.n_head_kv, c.head_dim).transpose(1, 2)
        q = rotate(q, cos, sin) / math.sqrt(c.head_dim)
        k = rotate(k, cos, sin)
        share = c.n_head // c.n_head_kv  # query heads of one k/v head
        k = k.repeat_interleave(share, 1)
        v = v.repeat_interleave(share, 1)
        s = q @ k.transpose(-1, -2) + mask
        y = torch.softmax(s, -1) @ v
        return self.o(y.transpose(1, 2).reshape(n, t, -1))


class Experts(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.router = nn.Linear(c.n_embd, c.n_expert, bias=False)
        shape = (c.n_expert, c.n_ff, c.n_embd)
        self.gate = nn.Parameter(torch.empty(shape))
        self.up = nn.Parameter(torch.empty(shape))
        self.down = nn.Parameter(torch.empty(c.n_expert, c.n_embd, c.n_ff))

    def forward(self, x):
        """Returns y, the load-balancing loss and the tokens per expert."""
        c, shape = self.c, x.shape
        x = x.reshape(-1, c.n_embd)
        logits = self.router(x)
        top, chosen = logits.topk(c.n_used, -1)
        weight = torch.softmax(top, -1)
        y = torch.zeros_like(x)
        used = []
        for e in range(c.n_expert):
            row, slot = (chosen == e).nonzero(as_tuple=True)
            used.append(row.numel())
            if row.numel() == 0:
                continue
            z = x.index_select(0, row)
            h = F.silu(z @ self.gate[e].t()) * (z @ self.up[e].t())
            h = (h @ self.down[e].t()) * weight[row, slot][:, None]
            y = y.index_add(0, row, h)
        used = torch.tensor(used, dtype=torch.float32)
        # Fedus et al. 2021 (arXiv:2101.03961), equation 4: 1 when even.
        share = used / used.sum()
        mean = torch.softmax(logits, -1).mean(0)
        balance = c.n_expert * (share * mean).sum()
        return y.view(shape), balance, used


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attn_norm = RMSNorm(c.n_embd, c.eps)
        self.attn = Attention(c)
        self.ffn_norm = RMSNorm(c.n_embd, c.eps)
        self.experts = Experts(c)

    def forward(self, x, cos, sin, mask):
        x = x + self.attn(self.attn_norm(x), cos, sin, mask)
        y, balance, used = self.experts(self.ffn_norm(x))
        return x + y, balance, used


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed = nn.Embedding(c.n_vocab, c.n_embd)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.norm = RMSNorm(c.n_embd, c.eps)
        cos, sin = rope_table(c)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        mask = torch.full((c.n_ctx, c.n_ctx), float("-inf")).triu(1)
        self.register_buffer("mask", mask, persistent=False)
        self.reset()

    def reset(self):
        for name, p in self.named_parameters():
            if p.dim() < 2:
                continue
            std = 0.02 if "embed" in name else p.shape[-1] ** -0.5
            if name.endswith("attn.o.weight") or name.endswith("down"):
                std /= math.sqrt(2 * self.c.n_layer)  # residual writers
            if "router" in name:
                std = 0.02
            nn.init.normal_(p, 0.0, std)

    def forward(self, ids):
        """ids [batch, t] -> logits [batch, t, n_vocab], the mean balance
        loss, and tokens per expert [n_layer, n_expert]."""
        t = ids.shape[1]
        cos, sin, mask = self.cos[:t], self.sin[:t], self.mask[:t, :t]
        x = self.embed(ids)
        balances, uses = [], []
        for block in self.blocks:
            x, balance, used = block(x, cos, sin, mask)
            balances.append(balance)
            uses.append(used)
        logits = self.norm(x) @ self.embed.weight.t()
        return logits, torch.stack(balances).mean(), torch.stack(uses)
