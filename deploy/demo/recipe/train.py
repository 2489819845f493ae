#!/usr/bin/env python3
"""Trains the demonstration model; stops and resumes where it was.

    train.py CORPUS_DIR VOCAB.json CHECKPOINT_DIR [--steps N] [--minutes M]

CORPUS_DIR holds train.jsonl and heldout.jsonl of corpus.py. CHECKPOINT_DIR
gets last.pt (replaced whole, never half written) and loss.csv. Worker w of
step s draws its rows from a generator seeded with (seed, s, w), so an
interrupted run sees the same data as one that was not.

The workers (--workers, one thread each) are processes that each compute the
gradient of their share of the rows; all take the mean of the same shared
buffer and the same step, so their weights stay equal. Debian's torch
multiplies matrices on one thread, hence processes."""
import argparse
import csv
import math
import os
import random
import sys
import time
from array import array

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

from model import Config, Model
from tokenizer import Tokenizer, read_jsonl

ASK_WEIGHT = 0.3  # of a question's tokens: answers matter more


class Documents:
    """All documents of one kind, end to end."""

    def __init__(self, tokenizer, docs):
        ids, ask, start = array("i"), array("b"), [0]
        for doc in docs:
            a, b = tokenizer.encode_document(doc)
            ids.extend(a)
            ask.extend(b)
            start.append(len(ids))
        self.ids = np.array(ids, dtype=np.int32)
        self.ask = np.array(ask, dtype=np.int8)
        self.start = start

    def draw(self, rng):
        i = rng.randrange(len(self.start) - 1)
        return slice(self.start[i], self.start[i + 1])


def make_rows(kinds, share, n_rows, n_ctx, rng):
    """Rows of n_ctx + 1 tokens, each beginning with a document. share[k] is
    the chance that the next document is of kind k."""
    ids = np.zeros((n_rows, n_ctx + 1), dtype=np.int64)
    weight = np.zeros((n_rows, n_ctx), dtype=np.float32)
    for r in range(n_rows):
        at = 0
        while at < n_ctx + 1:
            kind = kinds[0] if rng.random() < share else kinds[1]
            part = kind.draw(rng)
            n = min(part.stop - part.start, n_ctx + 1 - at)
            part = slice(part.start, part.start + n)
            ids[r, at:at + n] = kind.ids[part]
            w = np.where(kind.ask[part], ASK_WEIGHT, 1.0)
            if at == 0:
                weight[r, :n - 1] = w[1:]
            else:
                w[0] = 0  # that a document begins cannot be known
                weight[r, at - 1:at - 1 + n] = w
            at += n
    return torch.from_numpy(ids), torch.from_numpy(weight)


def loss_of(model, ids, weight):
    logits, balance, used = model(ids[:, :-1])
    nll = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(),
                          reduction="none")
    w = weight.flatten()
    return (nll * w).sum() / w.sum(), balance, used


def rate(step, a):
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < a.warmup:
        return a.lr * (step + 1) / a.warmup
    x = (step - a.warmup) / max(1, a.steps - a.warmup)
    return a.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, x))))


def save(path, model, optimizer, step, seconds, config):
    part = path + ".part"
    torch.save({"model": model.state_dict(), "step": step,
                "optimizer": optimizer.state_dict(), "seconds": seconds,
                "config": vars(config)}, part)
    os.replace(part, path)


@torch.no_grad()
def held_out(model, kinds, a):
    """Mean loss on stories, on chat, and the extremes of expert use."""
    model.eval()
    out, used = [], 0
    for kind in kinds:
        ids, w = make_rows([kind, kind], 1.0, 8, model.c.n_ctx,
                           random.Random(a.seed))
        loss, _, u = loss_of(model, ids, w)
        out.append(loss.item())
        used = used + u
    model.train()
    share = used / used.sum(-1, keepdim=True)
    return out + [share.min().item(), share.max().item()]


def row_length(step, a):
    """Most steps see short rows, which cost less attention; the last ones
    the whole context."""
    return a.n_ctx if step >= a.steps * a.short_steps else a.short


class Together:
    """Means over the workers, through memory that they share."""

    def __init__(self, workers, n):
        self.sums = torch.zeros(workers, n).share_memory_()
        self.barrier = mp.get_context("fork").Barrier(workers)
        self.stopping = torch.zeros(1).share_memory_()

    def mean(self, worker, parameters):
        """Replaces every gradient by the mean of all workers'."""
        at = 0
        for p in parameters:
            n = p.numel()
            row = self.sums[worker, at:at + n]
            row.zero_() if p.grad is None else row.copy_(p.grad.flatten())
            at += n
        self.barrier.wait()
        mean, at = self.sums.mean(0), 0
        for p in parameters:
            p.grad = mean[at:at + p.numel()].view_as(p)
            at += p.numel()
        self.barrier.wait()


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("corpus")
    p.add_argument("vocab")
    p.add_argument("checkpoints")
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--begin", help="begin with the weights of this checkpoint")
    p.add_argument("--minutes", type=float, default=1e9,
                   help="stop (with a checkpoint) after this long")
    p.add_argument("--tokens", type=int, default=2560,
                   help="of one step, all workers together")
    p.add_argument("--short", type=int, default=320,
                   help="length of the rows of most steps")
    p.add_argument("--short_steps", type=float, default=0.8,
                   help="share of the steps with short rows")
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--warmup", type=int, default=200)
    p.add_argument("--balance", type=float, default=0.02)
    p.add_argument("--stories", type=float, default=0.25,
                   help="chance that a document is a story (they are longer)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--every", type=int, default=250,
                   help="steps between held-out losses and checkpoints")
    for name in ("n_layer", "n_embd", "n_ff", "n_ctx"):
        p.add_argument("--" + name, type=int, default=getattr(Config, name))
    return p.parse_args()


def load(path, begin, model, optimizer):
    if not os.path.exists(path):
        if begin:
            model.load_state_dict(torch.load(begin)["model"])
        return 0, 0.0
    state = torch.load(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"resuming after step {state['step']}", flush=True)
    return state["step"], state["seconds"]


def train(worker, a, together, tokenizer, kinds, tests):
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    config = Config(n_vocab=tokenizer.n_vocab, n_layer=a.n_layer,
                    n_embd=a.n_embd, n_ff=a.n_ff, n_ctx=a.n_ctx)
    model = Model(config)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in parameters if p.dim() >= 2],
          "weight_decay": 0.05},
         {"params": [p for p in parameters if p.dim() < 2],
          "weight_decay": 0.0}], lr=a.lr, betas=(0.9, 0.98))
    path = os.path.join(a.checkpoints, "last.pt")
    step, seconds = load(path, a.begin, model, optimizer)
    together.barrier.wait()  # before anyone replaces last.pt
    log, out = None, None
    if worker == 0:
        log, out = open_log(os.path.join(a.checkpoints, "loss.csv"))
    begin = time.monotonic() - seconds
    stop = begin + seconds + 60 * a.minutes
    while step < a.steps and not together.stopping.item():
        n_ctx = row_length(step, a)
        rng = random.Random((a.seed * 1000003 + step) * 64 + worker)
        ids, weight = make_rows(kinds, a.stories,
                                max(1, a.tokens // n_ctx // a.workers),
                                n_ctx, rng)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, a)
        loss, balance, _ = loss_of(model, ids, weight)
        optimizer.zero_grad(set_to_none=True)
        (loss + a.balance * balance).backward()
        if worker == 0 and time.monotonic() > stop:
            together.stopping.fill_(1)  # seen by all after the barriers of mean()
        together.mean(worker, parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if worker != 0 or (step % 10 != 0 and step != a.steps):
            continue
        seconds = time.monotonic() - begin
        row = [step, f"{seconds:.0f}", f"{loss.item():.4f}",
               f"{balance.item():.4f}", f"{rate(step, a):.6f}"]
        if step % a.every == 0 or step == a.steps:
            row += [f"{x:.4f}" for x in held_out(model, tests, a)]
            save(path, model, optimizer, step, seconds, config)
        out.writerow(row)
        log.flush()
        print(*row, flush=True)
    if worker == 0:
        save(path, model, optimizer, step, time.monotonic() - begin, config)


def open_log(path):
    new = not os.path.exists(path)
    log = open(path, "a", newline="")
    out = csv.writer(log)
    if new:
        out.writerow(["step", "seconds", "loss", "balance", "rate",
                      "heldout_story", "heldout_chat", "least_used_expert",
                      "most_used_expert"])
    return log, out


def main():
    # Without these, glibc gives every large tensor back to the system and
    # half of the time goes into page faults.
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.environ.update(MALLOC_MMAP_THRESHOLD_="4294967296",
                          MALLOC_TRIM_THRESHOLD_="8589934592",
                          MALLOC_TOP_PAD_="67108864")
        os.execv(sys.executable, [sys.executable] + sys.argv)
    a = parse()
    tokenizer = Tokenizer(a.vocab)
    kinds, tests = [], []
    for name, to in (("train", kinds), ("heldout", tests)):
        docs = read_jsonl(os.path.join(a.corpus, name + ".jsonl"))
        to.append(Documents(tokenizer, [d for d in docs if "text" in d]))
        to.append(Documents(tokenizer, [d for d in docs if "turns" in d]))
    print(f"train: {len(kinds[0].ids)} story and {len(kinds[1].ids)} chat "
          f"tokens", flush=True)
    os.makedirs(a.checkpoints, exist_ok=True)
    n = sum(p.numel() for p in Model(Config(
        n_vocab=tokenizer.n_vocab, n_layer=a.n_layer, n_embd=a.n_embd,
        n_ff=a.n_ff, n_ctx=a.n_ctx)).parameters())
    together = Together(a.workers, n)
    mp.start_processes(train, (a, together, tokenizer, kinds, tests),
                       nprocs=a.workers, start_method="fork")


if __name__ == "__main__":
    main()
