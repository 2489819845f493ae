#!/usr/bin/env python3
"""Trains the demonstration model; stops and resumes where it was.

    train.py CORPUS_DIR VOCAB.json CHECKPOINT_DIR [--minutes M] [--stop S]

CORPUS_DIR holds train.jsonl and heldout.jsonl of corpus.py. CHECKPOINT_DIR
gets last.pt (replaced whole, never half written) and loss.csv. Portion p of
step s draws its documents from a generator seeded with (seed, s, p), so an
interrupted run sees the same data as one that was not. The learning rate
follows the clock, so that training ends after M minutes however much else the
machine has to do.

The workers (--workers, one thread each) are processes over the same
parameters in shared memory. They take the portions of a step as they come
and add up the gradients; then each takes the step of its share of the
parameters. Matrices move by Muon
(Jordan 2024, kellerjordan.github.io/posts/muon): the momentum made orthogonal
by five Newton-Schulz iterations; embedding, router and norms by AdamW."""
import argparse
import csv
import os
import random
import sys
import time

import torch
import torch.multiprocessing as mp

import data
from fast import Fast
from model import Config, Model


def orthogonal(g):
    """[n, rows, k]: about U V' of every matrix U S V'."""
    x = g.bfloat16()
    x = x / (x.float().flatten(1).norm(dim=1)[:, None, None] + 1e-7).bfloat16()
    for _ in range(5):
        a = torch.bmm(x, x.transpose(1, 2))
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return x.float()


class Optimizer:
    """What one worker does of a step: the matrices of its layers, its rows
    of the embedding; worker 0 also the vectors and routers."""

    def __init__(self, model, a, worker, state):
        self.a, self.state = a, state
        self.matrices, self.others = {}, []
        n = model.c.n_layer
        for name, (p, at) in model.places.items():
            layer = int(name.split(".")[1]) if "blocks" in name else -1
            if p.dim() >= 2 and layer >= 0 and "router" not in name:
                if layer * a.workers // n == worker:
                    self.matrices.setdefault(p.shape[-2:], []).append((p, at))
            elif layer < 0 and p.dim() == 2:
                rows = len(p) // a.workers
                k = p.shape[1]
                part = p.detach()[worker * rows:(worker + 1) * rows]
                self.others.append((part, at + worker * rows * k))
            elif worker == 0:
                self.others.append((p.detach(), at))

    @torch.no_grad()
    def step(self, grads, step, lr):
        """grads [workers, n]; lr is that of Muon, relative to --lr for the
        rest."""
        a, (first, second) = self.a, self.state
        for shape, group in self.matrices.items():
            updates = []
            for p, at in group:
                g = grads[:, at:at + p.numel()].sum(0)
                m = first[at:at + p.numel()]
                m.mul_(a.momentum).add_(g, alpha=1 - a.momentum)
                g = g.mul_(1 - a.momentum).add_(m, alpha=a.momentum)
                updates.append(g.view(-1, *shape))
            update = orthogonal(torch.cat(updates))
            size = lr * max(1.0, shape[0] / shape[1]) ** 0.5
            at = 0
            for p, _ in group:
                n = p.numel() // (shape[0] * shape[1])
                p.mul_(1 - lr * a.decay)
                p.sub_(update[at:at + n].view(p.shape), alpha=size)
                at += n
        slow = a.adam * lr / a.lr
        for p, at in self.others:
            g = grads[:, at:at + p.numel()].sum(0)
            m, v = (s[at:at + p.numel()] for s in (first, second))
            m.mul_(0.9).add_(g, alpha=0.1)
            v.mul_(0.98).addcmul_(g, g, value=0.02)
            m_hat, v_hat = m / (1 - 0.9 ** step), v / (1 - 0.98 ** step)
            p.sub_((m_hat / (v_hat.sqrt() + 1e-10)).view(p.shape), alpha=slow)


def rate(step, seconds, a):
    """Linear up by steps, constant, linear down to nothing by the clock."""
    down = (1 - seconds / (60 * a.minutes)) / a.cooldown
    return a.lr * max(0.0, min(1.0, (step + 1) / a.warmup, down))


def save(path, model, state, step, seconds):
    part = path + ".part"
    torch.save({"model": model.state_dict(), "step": step, "state": state,
                "seconds": seconds, "config": vars(model.c)}, part)
    os.replace(part, path)


@torch.no_grad()
def held_out(fast, docs):
    """Mean loss on stories, facts and sums, and the extremes of expert use."""
    out, used = [], 0
    for group, n in (("story", 16384), ("fact", 8192), ("sum", 4096)):
        ids, start, target, w = docs.sample(group, n, fast.c.n_ctx, 1)
        total, _, u = fast.loss(ids, start, target, w)
        out.append((total / w.sum()).item())
        used = used + u
    share = used / used.sum(-1, keepdim=True)
    return out + [share.min().item(), share.max().item()]


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("corpus")
    p.add_argument("vocab")
    p.add_argument("checkpoints")
    p.add_argument("--minutes", type=float, default=60,
                   help="of training, all in all")
    p.add_argument("--stop", type=float, default=1e9,
                   help="stop now (with a checkpoint) after so many minutes")
    p.add_argument("--tokens", type=int, default=2048, help="of a portion")
    p.add_argument("--portions", type=int, default=4, help="of a step")
    p.add_argument("--lr", type=float, default=0.02, help="of Muon")
    p.add_argument("--adam", type=float, default=3e-3, help="rate of AdamW")
    p.add_argument("--momentum", type=float, default=0.95)
    p.add_argument("--decay", type=float, default=0.1)
    p.add_argument("--warmup", type=int, default=100)
    p.add_argument("--cooldown", type=float, default=0.5,
                   help="share of the steps with a falling rate")
    p.add_argument("--balance", type=float, default=0.02)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--every", type=int, default=250,
                   help="steps between held-out losses and checkpoints")
    return p.parse_args()


def train(worker, a, model, shared, train_docs, test_docs):
    torch.set_num_threads(1)
    grads, state, barrier, now, done = shared
    fast, at = Fast(model), 0
    for p, at in model.places.values():
        p.grad = grads[worker, at:at + p.numel()].view(p.shape)
    optimizer = Optimizer(model, a, worker, state)
    path = os.path.join(a.checkpoints, "last.pt")
    step, seconds = done
    begin = time.monotonic() - seconds
    stop = min(60 * a.minutes, seconds + 60 * a.stop)
    if worker == 0:
        log, out = open_log(os.path.join(a.checkpoints, "loss.csv"))
    while True:
        if worker == 0:
            seconds = time.monotonic() - begin
            now.lr.value = -1 if seconds > stop else rate(step, seconds, a)
            now.next.value = 0
        barrier.wait()
        lr = now.lr.value
        if lr < 0:
            break
        grads[worker].zero_()
        losses = []
        while True:
            with now.next.get_lock():
                portion = now.next.value
                now.next.value += 1
            if portion >= a.portions:
                break
            rng = random.Random((a.seed * 1000003 + step) * 64 + portion)
            ids, start, target, w = train_docs.step(a.tokens, model.c.n_ctx,
                                                    rng)
            total, balance, _ = fast.loss(ids, start, target, w)
            loss = total / w.sum()
            ((loss + a.balance * balance) / a.portions).backward()
            losses.append((loss.item(), balance.item()))
        barrier.wait()
        step += 1
        optimizer.step(grads, step, lr)
        barrier.wait()
        if worker != 0 or step % 10 != 0:
            continue
        row = [step, f"{time.monotonic() - begin:.0f}"]
        row += [f"{sum(x) / len(x):.4f}" for x in zip(*losses or [(0, 0)])]
        row.append(f"{lr:.6f}")
        if step % a.every == 0:
            row += [f"{x:.4f}" for x in held_out(fast, test_docs)]
            save(path, model, state, step, time.monotonic() - begin)
        out.writerow(row)
        log.flush()
        print(*row, flush=True)
    if worker == 0:
        save(path, model, state, step, time.monotonic() - begin)


def open_log(path):
    new = not os.path.exists(path)
    log = open(path, "a", newline="")
    out = csv.writer(log)
    if new:
        out.writerow(["step", "seconds", "loss", "balance", "rate",
                      "heldout_story", "heldout_fact", "heldout_sum",
                      "least_used_expert", "most_used_expert"])
    return log, out


class Now:
    """What all workers must know of the step: its rate (below 0: the end) and
    the next portion that nobody has taken."""

    def __init__(self):
        self.lr = mp.get_context("fork").Value("d", 0.0)
        self.next = mp.get_context("fork").Value("i", 0)


def share_parameters(model):
    """Moves all parameters into one shared tensor; notes their places."""
    n = sum(p.numel() for p in model.parameters())
    flat = torch.empty(n).share_memory_()
    model.places, at = {}, 0
    for name, p in model.named_parameters():
        part = flat[at:at + p.numel()].view(p.shape)
        part.copy_(p.data)
        p.data = part
        model.places[name] = p, at
        at += p.numel()
    return n


def main():
    # Without these, glibc gives every large tensor back to the system and
    # half of the time goes into page faults.
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.environ.update(MALLOC_MMAP_THRESHOLD_="4294967296",
                          MALLOC_TRIM_THRESHOLD_="8589934592",
                          MALLOC_TOP_PAD_="67108864")
        os.execv(sys.executable, [sys.executable] + sys.argv)
    a = parse()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    train_docs, test_docs, tokenizer = data.load(a.corpus, a.vocab)
    print(f"train: {len(train_docs.ids)} tokens", flush=True)
    os.makedirs(a.checkpoints, exist_ok=True)
    model = Model(Config(n_vocab=tokenizer.n_vocab))
    n = share_parameters(model)
    state = torch.zeros(2, n).share_memory_()
    done = 0, 0.0
    path = os.path.join(a.checkpoints, "last.pt")
    if os.path.exists(path):
        old = torch.load(path)
        model.load_state_dict(old["model"])
        state.copy_(old["state"])
        done = old["step"], old["seconds"]
        print(f"resuming after step {done[0]}", flush=True)
    shared = (torch.zeros(a.workers, n).share_memory_(), state,
              mp.get_context("fork").Barrier(a.workers),
              Now(), done)
    mp.start_processes(train, (a, model, shared, train_docs, test_docs),
                       nprocs=a.workers, start_method="fork")


if __name__ == "__main__":
    main()
