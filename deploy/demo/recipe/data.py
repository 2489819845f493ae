"""Documents as tokens with weights, drawn and packed for training."""
import collections
import os
import random
import re
from array import array

import numpy as np
import torch

from tokenizer import (ASSISTANT, END, SPACE, USER, Tokenizer,
                       document_segments, read_jsonl, units_of)

ASK = 0.3      # weight of a question's tokens: answers matter more
AGAIN = 2.5    # of a rare word that stood before: names, things, places
PRONOUN = 2.5
DIGIT = 4.0    # in answers
RARE = 0.12    # share of the stories in which a rare word occurs at most
PRONOUNS = set("he she him her his himself herself".split())
JOIN = 0.2     # chance that a document also sees the one before it

# Chance that a document is of this group. Stories are long and sums short:
# stories still are half of the tokens.
SHARES = {"story": 0.12, "fact": 0.33, "sum": 0.42, "large sum": 0.03,
          "turns": 0.07, "told": 0.03}


def word_of(unit):
    return unit.lstrip(SPACE).lower()


def common_words(docs):
    """Words that many stories hold, whatever happens in them."""
    stories = [d["text"] for d in docs if d["group"] == "story"][:4000]
    found = collections.Counter()
    for text in stories:
        found.update({word_of(u) for u in units_of(text)})
    return {w for w, n in found.items() if n > RARE * len(stories)}


def weigh(tokenizer, doc, common):
    """(ids, weights) of one document; weights[i] is that of predicting
    ids[i]."""
    ids, weights, asking, seen = [], [], False, set()
    plain = "sum" not in doc["group"]
    for control, text in document_segments(doc):
        if control is not None:
            ids.append(control)
            weights.append(ASK if asking else 1.0)
            if control in (USER, ASSISTANT):
                asking = control == USER
            if control == END:
                asking = False
            continue
        for unit in units_of(text):
            part, word = tokenizer.encode_unit(unit), word_of(unit)
            w = ASK if asking else 1.0
            if not asking:
                if word.isdigit():
                    w = DIGIT
                elif word in PRONOUNS and plain:
                    w = PRONOUN
                elif word in seen and word not in common and word.isalpha():
                    w = AGAIN
            seen.add(word)
            ids += part
            weights += [w] * len(part)
    weights[0] = 0.0  # that a document begins cannot be known
    return ids, weights


def group_of(doc):
    """That of the document, but sums beyond twenty are a group of their own:
    there are many of them."""
    name, _, rest = doc.get("key", "").partition("-")
    if name == "plus" and rest[0].isdigit():
        return "large sum" if sum(map(int, rest.split("-"))) > 20 else "sum"
    return doc["group"]


class Documents:
    """All documents, end to end; where[group] lists, per key, which."""

    def __init__(self, tokenizer, docs, weighted=True):
        ids, weights, start = array("i"), array("f"), [0]
        common = common_words(docs)
        keys = collections.defaultdict(lambda: collections.defaultdict(list))
        for i, doc in enumerate(docs):
            a, w = weigh(tokenizer, doc, common)
            ids.extend(a)
            weights.extend(w if weighted else [float(x > 0) for x in w])
            start.append(len(ids))
            keys[group_of(doc)][doc.get("key", i)].append(i)
        self.ids = torch.from_numpy(np.array(ids, dtype=np.int64))
        self.weights = torch.from_numpy(np.array(weights, dtype=np.float32))
        self.start = start
        self.where = {g: list(k.values()) for g, k in keys.items()}

    def draw(self, rng, group):
        return rng.choice(rng.choice(self.where[group]))

    def pack(self, chosen, n, n_ctx, rng=None):
        """(ids, start, target, weight) of n tokens from the documents that
        the iterator `chosen` gives; each stays shorter than n_ctx."""
        ids = torch.zeros(n + 1, dtype=torch.int64)
        weight = torch.zeros(n + 1)
        start, at = [0], 0
        for i in chosen:
            a, b = self.start[i], self.start[i + 1]
            b = min(b, a + n_ctx, a + n + 1 - at)
            ids[at:at + b - a] = self.ids[a:b]
            weight[at:at + b - a] = self.weights[a:b]
            joined = (rng is not None and len(start) > 1 and
                      at + b - a - start[-2] <= n_ctx and rng.random() < JOIN)
            at += b - a
            if joined:
                start[-1] = at
            else:
                start.append(at)
            if at > n:
                break
        start[-1] = n
        return ids[:n], torch.tensor(start), ids[1:], weight[1:]

    def step(self, n, n_ctx, rng):
        groups, shares = list(SHARES), list(SHARES.values())

        def chosen():
            while True:
                yield self.draw(rng, rng.choices(groups, shares)[0])
        return self.pack(chosen(), n, n_ctx, rng)

    def sample(self, group, n, n_ctx, seed):
        """The same n tokens every time."""
        rng = random.Random(seed)

        def chosen():
            while True:
                yield self.draw(rng, group)
        return self.pack(chosen(), n, n_ctx)


def load(folder, vocab):
    tokenizer = Tokenizer(vocab)
    return (Documents(tokenizer, read_jsonl(os.path.join(folder,
                                                         "train.jsonl"))),
            Documents(tokenizer, read_jsonl(os.path.join(folder,
                                                         "heldout.jsonl")),
                      weighted=False), tokenizer)
