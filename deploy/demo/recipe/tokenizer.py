#!/usr/bin/env python3
"""The demonstration model's vocabulary: trained here, read by potluck and by
anything else that reads SentencePiece pieces from a GGUF file.

    tokenizer.py train CORPUS.jsonl VOCAB.json
    tokenizer.py check VOCAB.json CORPUS.jsonl POTLUCK MODEL.gguf

Training is byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) over
the distinct words of the corpus. A piece's score is minus its rank, so that
"merge the neighbours whose piece has the best score, the leftmost on a tie"
(what readers of SentencePiece vocabularies do) repeats the merges in the
order in which they were learnt.

Pieces never hold a digit next to anything, so numbers are read digit by
digit. Characters outside the vocabulary go through 256 byte tokens."""
import collections
import heapq
import json
import re
import subprocess
import sys

import words

SPACE = "\u2581"  # how SentencePiece writes a space
N_VOCAB = 3072
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
UNK, BOS, EOS, USER, ASSISTANT, END = range(len(SPECIAL))

# No piece crosses the ends of these units, so each can be encoded alone.
UNIT = re.compile(f"{SPACE}?[A-Za-z]+|'[a-z]+|[0-9]|{SPACE}?[^A-Za-z0-9{SPACE}]"
                  f"|{SPACE}", re.DOTALL)


def units_of(text):
    """Text as the reader sees it: a space in front, spaces marked."""
    return UNIT.findall((" " + text).replace(" ", SPACE))


def document_segments(doc):
    """A document as [(control id or None, text)], in order: what stands
    between control tokens is encoded on its own."""
    if "turns" not in doc:
        return [(BOS, ""), (None, doc["text"]), (EOS, "")]
    out = [(BOS, "")]
    for user, assistant in doc["turns"]:
        out += [(USER, ""), (None, user), (END, ""),
                (ASSISTANT, ""), (None, assistant), (END, "")]
    return out


# ---- training ----------------------------------------------------------

class Trainer:
    """words[i] is a list of symbols, count[i] how often the word occurs."""

    def __init__(self, counts):
        self.words = [list(w) for w in counts]
        self.count = list(counts.values())
        self.pairs = collections.Counter()
        self.where = collections.defaultdict(set)
        for i, w in enumerate(self.words):
            for pair in zip(w, w[1:]):
                self.pairs[pair] += self.count[i]
                self.where[pair].add(i)
        self.heap = [(-n, a + b, a) for (a, b), n in self.pairs.items()]
        heapq.heapify(self.heap)

    def merge(self, a, b):
        """Joins a and b everywhere, keeping the pair counts right."""
        touched = set()
        for i in self.where.pop((a, b), ()):
            old = self.words[i]
            new, k = [], 0
            while k < len(old):
                if k + 1 < len(old) and old[k] == a and old[k + 1] == b:
                    new.append(a + b)
                    k += 2
                else:
                    new.append(old[k])
                    k += 1
            if len(new) == len(old):
                continue
            for pair in zip(old, old[1:]):
                self.pairs[pair] -= self.count[i]
                touched.add(pair)
            for pair in zip(new, new[1:]):
                self.pairs[pair] += self.count[i]
                self.where[pair].add(i)
                touched.add(pair)
            self.words[i] = new
        for x, y in touched:
            if self.pairs[x, y] > 0:
                heapq.heappush(self.heap, (-self.pairs[x, y], x + y, x))

    def learn(self, n_pieces):
        """The pieces in the order learnt, fewer if words run out."""
        pieces = []
        seen = set()
        while len(pieces) < n_pieces and self.heap:
            n, text, a = heapq.heappop(self.heap)
            b = text[len(a):]
            if self.pairs[a, b] != -n or n > -2:
                continue  # overtaken, or too rare to be worth a row
            if text not in seen:
                seen.add(text)
                pieces.append(text)
            # Readers join by text: however the parts are cut, the piece is
            # the same.
            for k in range(1, len(text)):
                if self.pairs.get((text[:k], text[k:]), 0) > 0:
                    self.merge(text[:k], text[k:])
        return pieces


def train(docs):
    """[(piece, score, kind)], N_VOCAB of them."""
    counts = collections.Counter()
    for doc in docs:
        for control, text in document_segments(doc):
            if control is None:
                counts.update(units_of(text))
    for name in words.GIRLS + words.BOYS + words.ANIMAL_NAMES:
        counts[SPACE + name] *= 10  # names are to be one piece each
    chars = sorted({c for w in counts for c in w if c != "\n"} | {SPACE})
    head = [(s, 0.0, UNKNOWN if i == UNK else CONTROL)
            for i, s in enumerate(SPECIAL)]
    head += [(f"<0x{b:02X}>", 0.0, BYTE) for b in range(256)]
    n_merges = N_VOCAB - len(head) - len(chars)
    pieces = Trainer(counts).learn(n_merges)
    if len(pieces) < n_merges:
        raise SystemExit(f"the corpus gives only {len(pieces)} pieces, "
                         f"{n_merges} are wanted")
    out = head + [(p, -float(i), NORMAL) for i, p in enumerate(pieces)]
    out += [(c, -float(n_merges + i), NORMAL) for i, c in enumerate(chars)]
    return out


# ---- use ---------------------------------------------------------------

class Tokenizer:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            rows = json.load(f)
        self.pieces = [r[0] for r in rows]
        self.scores = [r[1] for r in rows]
        self.kinds = [r[2] for r in rows]
        self.n_vocab = len(rows)
        self.id_of = {p: i for i, (p, _, k) in enumerate(rows) if k == NORMAL}
        self.byte_of = {int(p[3:5], 16): i
                        for i, (p, _, k) in enumerate(rows) if k == BYTE}
        self.cache = {}

    def encode_unit(self, unit):
        ids = self.cache.get(unit)
        if ids is not None:
            return ids
        parts = list(unit)
        while True:
            best, at = None, -1
            for i in range(len(parts) - 1):
                piece = self.id_of.get(parts[i] + parts[i + 1])
                if piece is not None and (best is None or
                                          self.scores[piece] > best):
                    best, at = self.scores[piece], i
            if best is None:
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        ids = []
        for p in parts:
            if p in self.id_of:
                ids.append(self.id_of[p])
            else:
                ids += [self.byte_of[b] for b in p.encode("utf-8")]
        self.cache[unit] = ids
        return ids

    def encode(self, text):
        """Ids of plain text, without BOS."""
        return [i for u in units_of(text) for i in self.encode_unit(u)]

    def encode_special(self, text):
        """The same, but text of control tokens becomes those tokens."""
        ids = []
        for part in re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")",
                             text):
            if part in SPECIAL:
                ids.append(SPECIAL.index(part))
            elif part:
                ids += self.encode(part)
        return ids

    def encode_document(self, doc):
        """(ids, ask): ask[i] is 1 where a token belongs to a question."""
        ids, ask, asking = [], [], 0
        for control, text in document_segments(doc):
            if control is None:
                part = self.encode(text)
            else:
                part = [control]
                asking = int(control == USER or (asking and control == END))
            ids += part
            ask += [asking] * len(part)
            if control == END:
                asking = 0
        return ids, ask

    def decode(self, ids):
        raw = b""
        for i in ids:
            if self.kinds[i] == BYTE:
                raw += bytes([int(self.pieces[i][3:5], 16)])
            elif self.kinds[i] == NORMAL:
                raw += self.pieces[i].replace(SPACE, " ").encode("utf-8")
        text = raw.decode("utf-8", "replace")
        return text[1:] if text.startswith(" ") else text


def read_jsonl(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def check(vocab, corpus, potluck, model):
    """Compares with `potluck tokenize` on a text of many documents."""
    t = Tokenizer(vocab)
    texts = [text for doc in read_jsonl(corpus)[:2000]
             for control, text in document_segments(doc) if control is None]
    odd = ["", "12+7=19 don't 'quoted' dogs' caf\u00e9 \u4f60 \U0001f600",
           "  two  spaces\n\nand lines\t.", "\u2581mark", "A1b2''s"]
    sample = "\n".join(texts + odd)
    got = subprocess.run([potluck, "tokenize", model, "-"], check=True,
                         input=sample.encode(), stdout=subprocess.PIPE)
    theirs = [int(x) for x in got.stdout.split()]
    ours = t.encode(sample)
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            near = t.decode(ours[max(0, i - 5):i + 5])
            raise SystemExit(f"token {i}: {a} here, {b} there, near {near!r}")
    if len(ours) != len(theirs):
        raise SystemExit(f"{len(ours)} tokens here, {len(theirs)} there")
    print(f"{len(ours)} tokens of {len(sample)} characters agree")


def main(argv):
    if len(argv) == 4 and argv[1] == "train":
        vocab = train(read_jsonl(argv[2]))
        with open(argv[3], "w", encoding="utf-8") as f:
            f.write("[\n" + ",\n".join(json.dumps(r) for r in vocab) + "\n]\n")
        print(f"{len(vocab)} pieces")
    elif len(argv) == 6 and argv[1] == "check":
        check(*argv[2:])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv)
