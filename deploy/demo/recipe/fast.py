#!/usr/bin/env python3
"""The forward and backward pass of model.py for training on a processor:
kernels.c for what torch does slowly, matrices multiplied in bfloat16 (the
sums and the weights stay f32), and documents packed end to end, each of which
sees only itself.

    fast.py check      compares losses and gradients with model.py

With every bfloat16 above replaced by float32, the gradients agree to five
digits; as it is, the router of untrained weights chooses now and then another
expert, and they are 0.1 to 0.5 of their length off."""
import ctypes
import os
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F

from model import Config, Model, rope_table

FLAGS = "-O3 -march=native -ffast-math -fno-math-errno -shared -fPIC".split()
MAX_T = 512  # of kernels.c


def build():
    """Compiles kernels.c for this very processor."""
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "kernels.so")
        subprocess.run([os.environ.get("CC", "cc"), *FLAGS, "-o", out,
                        os.path.join(here, "kernels.c"), "-lm"], check=True)
        return ctypes.CDLL(out)


LIB = build()


def call(name, *args):
    """Tensors go as pointers, integers as int32 (or int64, if marked so)."""
    out = []
    for a in args:
        if torch.is_tensor(a):
            assert a.is_contiguous()
            out.append(ctypes.c_void_p(a.data_ptr()))
        elif isinstance(a, float):
            out.append(ctypes.c_float(a))
        elif isinstance(a, int):
            out.append(ctypes.c_int(a))
        else:
            out.append(a)
    getattr(LIB, name)(*out)


class Linear(torch.autograd.Function):
    """x [n, k] f32, weight [m, k] f32, narrow its bfloat16."""

    @staticmethod
    def forward(ctx, x, weight, narrow):
        x = x.bfloat16()
        ctx.save_for_backward(x, narrow)
        return (x @ narrow.t()).float()

    @staticmethod
    def backward(ctx, g):
        x, narrow = ctx.saved_tensors
        g = g.bfloat16()
        return (g @ narrow).float(), (g.t() @ x).float(), None


class Rms(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        n, k = x.shape
        y, kept = torch.empty_like(x), torch.empty(n)
        call("rms", x, weight, y, kept, n, k, eps)
        ctx.save_for_backward(x, weight, kept)
        return y

    @staticmethod
    def backward(ctx, g):
        x, weight, kept = ctx.saved_tensors
        dx, dw = torch.empty_like(x), torch.empty_like(weight)
        call("rms_back", x, weight, kept, g.contiguous(), dx, dw, *x.shape)
        return dx, dw, None


class Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, start, cs, n_head, n_kv):
        y, lse = torch.empty_like(q), torch.empty(len(q), n_head)
        call("attend", q, k, v, y, lse, start, len(start) - 1, cs, n_head,
             n_kv)
        ctx.save_for_backward(q, k, v, y, lse, start, cs)
        ctx.heads = n_head, n_kv
        return y

    @staticmethod
    def backward(ctx, g):
        q, k, v, y, lse, start, cs = ctx.saved_tensors
        dq, dk, dv = map(torch.empty_like, (q, k, v))
        call("attend_back", q, k, v, y, lse, g.contiguous(), dq, dk, dv,
             start, len(start) - 1, cs, *ctx.heads)
        return dq, dk, dv, None, None, None, None


class Experts(torch.autograd.Function):
    """x [n, d]; share, place [n, 2]: what of a token goes to which row of the
    rows sorted by expert; count[e] rows belong to expert e."""

    @staticmethod
    def forward(ctx, x, share, place, count, gate, up, down, narrow):
        n, d = x.shape
        gate, up, down = narrow
        z = torch.empty(2 * n, d, dtype=torch.bfloat16)
        call("spread", x, place, z, n, d)
        a = torch.empty(2 * n, gate.shape[1], dtype=torch.bfloat16)
        u, h, out = map(torch.empty_like, (a, a, z))
        for e, (first, end) in enumerate(ranges(count)):
            torch.mm(z[first:end], gate[e].t(), out=a[first:end])
            torch.mm(z[first:end], up[e].t(), out=u[first:end])
        call("swiglu", a, u, h, ctypes.c_int64(a.numel()))
        for e, (first, end) in enumerate(ranges(count)):
            torch.mm(h[first:end], down[e].t(), out=out[first:end])
        y = torch.empty_like(x)
        call("gather", out, share, place, y, n, d)
        ctx.kept = z, a, u, h, out, share, place, count, narrow
        return y

    @staticmethod
    def backward(ctx, g):
        z, a, u, h, out, share, place, count, (gate, up, down) = ctx.kept
        del ctx.kept
        n, d = g.shape
        dout, dh, dz = map(torch.empty_like, (out, h, z))
        dshare = torch.empty_like(share)
        call("gather_back", out, share, place, g.contiguous(), dout, dshare,
             n, d)
        dgate, dup, ddown = (torch.zeros(w.shape) for w in (gate, up, down))
        for e, (first, end) in enumerate(ranges(count)):
            torch.mm(dout[first:end], down[e], out=dh[first:end])
            ddown[e] = dout[first:end].t() @ h[first:end]
        call("swiglu_back", a, u, dh, ctypes.c_int64(a.numel()))
        for e, (first, end) in enumerate(ranges(count)):
            part = slice(first, end)
            dz[part] = a[part] @ gate[e] + u[part] @ up[e]
            dgate[e] = a[part].t() @ z[part]
            dup[e] = u[part].t() @ z[part]
        dx = torch.empty(n, d)
        call("gather", dz, torch.ones_like(share), place, dx, n, d)
        return dx, dshare, None, None, dgate, dup, ddown, None


def ranges(count):
    at = 0
    for n in count:
        yield at, at + n
        at += n


class Loss(torch.autograd.Function):
    """Sum of weight times -log p(target) over rows; the gradient is made on
    the way, so that the logits are never all there."""

    @staticmethod
    def forward(ctx, x, embed, narrow, target, weight):
        x = x.bfloat16()
        dx = torch.empty_like(x)
        dembed = torch.zeros_like(embed)
        total = 0.0
        for at in range(0, len(x), 512):
            part = slice(at, at + 512)
            logits = (x[part] @ narrow.t()).float()
            p = torch.softmax(logits, -1)
            w, t = weight[part], target[part][:, None]
            total += -(p.gather(1, t)[:, 0].clamp_min(1e-30).log() * w).sum()
            p.scatter_add_(1, t, torch.full(t.shape, -1.0))
            g = p.mul_(w[:, None]).bfloat16()
            dx[part] = g @ narrow
            dembed += g.t() @ x[part]
        ctx.grads = dx.float(), dembed
        return total

    @staticmethod
    def backward(ctx, g):
        dx, dembed = ctx.grads
        del ctx.grads
        return dx.mul_(g), dembed.mul_(g), None, None, None


def route(logits, n_expert, n_used):
    """What experts.forward of model.py does about the router."""
    top, chosen = logits.topk(n_used, -1)
    share = torch.softmax(top, -1)
    flat = chosen.flatten()
    order = torch.argsort(flat)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    count = torch.bincount(flat, minlength=n_expert)
    mean = torch.softmax(logits, -1).mean(0)
    balance = n_expert * (count / count.sum() * mean).sum()
    return share, place.view_as(chosen), count, balance


class Fast:
    """Computes with the parameters of a Model."""

    def __init__(self, model):
        self.m, self.c = model, model.c
        cos, sin = rope_table(model.c)
        self.cs = torch.stack((cos, sin), -1).flatten(1).contiguous()
        assert model.c.n_ctx <= MAX_T and model.c.n_used == 2
        assert model.c.head_dim == 32 and model.c.n_ff % 16 == 0

    def loss(self, ids, start, target, weight):
        """ids [n]: documents start[s]..start[s+1]. Returns the weighted sum
        of losses, the mean balance loss, and tokens per expert."""
        m, c = self.m, self.c
        embed = m.embed.weight
        x = F.embedding(ids, embed)
        balances, uses = [], []
        for b in m.blocks:
            y = Rms.apply(x, b.attn_norm.weight, c.eps)
            q, k, v = (Linear.apply(y, p.weight, p.weight.detach().bfloat16())
                       for p in (b.attn.q, b.attn.k, b.attn.v))
            y = Attend.apply(q, k, v, start, self.cs, c.n_head, c.n_head_kv)
            o = b.attn.o.weight
            x = x + Linear.apply(y, o, o.detach().bfloat16())
            y = Rms.apply(x, b.ffn_norm.weight, c.eps)
            e = b.experts
            share, place, count, balance = route(e.router(y), c.n_expert,
                                                 c.n_used)
            weights = e.gate, e.up, e.down
            x = x + Experts.apply(
                y, share.contiguous(), place, count.tolist(), *weights,
                [p.detach().bfloat16() for p in weights])
            balances.append(balance)
            uses.append(count)
        x = Rms.apply(x, m.norm.weight, c.eps)
        total = Loss.apply(x, embed, embed.detach().bfloat16(), target, weight)
        return total, torch.stack(balances).mean(), torch.stack(uses)


def check():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = Model(Config())
    ids = torch.randint(0, 3072, (701,))
    start = torch.tensor([0, 3, 40, 552, 700])
    weight = torch.rand(700)
    total, balance, used = Fast(model).loss(ids[:700], start, ids[1:], weight)
    (total / 700 + 0 * balance).backward()
    fast = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    plain = []
    for a, b in zip(start, start[1:]):
        logits, _, _ = model(ids[None, a:b])
        plain.append(F.cross_entropy(logits[0], ids[a + 1:b + 1],
                                     reduction="none") * weight[a:b])
    plain = torch.cat(plain).sum()
    (plain / 700).backward()
    print(f"loss {total.item():.5f}, plain {plain.item():.5f}; balance "
          f"{balance.item():.5f}")
    for n, p in model.named_parameters():
        if True:
            off = (fast[n] - p.grad).norm() / p.grad.norm()
            if "blocks" not in n or "blocks.0" in n or "blocks.5" in n:
                print(f"{n}: {off.item():.4f} off")


if __name__ == "__main__":
    if sys.argv[1:] != ["check"]:
        raise SystemExit(__doc__)
    check()
