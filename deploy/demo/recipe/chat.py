"""Question-and-answer turns: facts.py seen through many forms of asking.

A *form* is one wording of one question. About one form in eight is held out:
which ones depends on the wording alone, so no seed and no order can move a
held-out wording into training."""
import zlib

from facts import (CAPITALS, DAYS, EATS, FACTS, HOMES, MONTHS, OPPOSITES, SAYS,
                   SEASONS, TERMS, YOUNG)
from wordings import MORE

# Around a question that ends in "?". {q}: as it is; {l}: its first letter
# small; {n}: without the question mark.
FRAMES = [
    "{q}", "{q}", "{q}", "{n}",  # as people mostly ask
    "{l}", "Please tell me: {l}", "Hello! {q}", "Hi, {l}", "I have a question: {l}",
    "Tell me, {l}", "Can you tell me: {l}", "Quick question: {l}",
    "Do you know the answer? {q}", "{q} Please tell me.", "{q} I would like to know.",
    "I wonder: {l}", "My son asks: {l}", "My daughter asked me: {l}",
    "A friend wants to know: {l}", "Our teacher asked: {l}", "Can you help me? {q}",
    "Good morning. {q}", "Good evening! {q}", "Hey, {l}", "Hello there, {l}", "Hi there! {q}", "So, {l}", "Now tell me, {l}",
    "Could you explain this to me: {l}", "Please answer this: {l}",
    "{q} Please be short.", "{q} Thank you!", "One more question: {l}",
    "Please help me with my homework. {q}", "{q} Do you know?",
    "I am curious: {l}", "Here is my question: {l}", "Excuse me, {l}",
    "Sorry to ask, but {l}", "I forgot: {l}", "Okay, {l}", "And {l}",
]

# Something said before the question.
LEADS = [
    "I am new to this. {q}", "Somebody told me about you. {q}", "I read about it today. {q}",
    "We talked about it at school. {q}", "There is one thing I do not know. {q}",
    "That is interesting. {q}", "I am writing a text for my class. {q}", "Let us go on. {q}",
    "Here is an easy one. {q}", "Thank you for your help. {q}", "In a few words, please. {q}",
    "Say it in one sentence. {q}", "Actually, {l}", "Tell me in one sentence: {l}",
]

# Asking for the meaning of a term. {t}: with its article; {b}: without.
MEANINGS = [
    "What is {t}?", "What is {t}?", "what is {t}", "What is {t}, please?",
    "What's {t}?", "What does {b} mean?", "What do people mean by {t}?",
    "Explain {t}.", "Please explain {t}.", "Can you explain {t}?",
    "Can you explain what {t} is?", "Could you tell me what {t} is?",
    "Tell me what {t} is.", "Please tell me what {t} is.",
    "Do you know what {t} is?", "I would like to know what {t} is.",
    "I do not know what {t} is.", "What exactly is {t}?",
    "Describe {t}.", "Please describe {t} in simple words.",
    "How would you explain {t} to a child?", "Explain {t} to me, please.",
    "What is meant by {t}?", "What is the meaning of {b}?",
    "Tell me about {t}.", "Hello! What is {t}?", "Hi, what is {t}?",
    "I have a question: what is {t}?", "Define {b}.", "What can you tell me about {t}?",
    "I heard about {t}. What is it?", "I read about {t}. What does it mean?",
    "In simple words, what is {t}?", "What kind of thing is {t}?",
    "Somebody told me about {t}. What is that?", "My daughter asks what {t} is.",
    "Our teacher asked us what {t} is.", "So what is {t}?", "And what is {t}?",
    "Give me a short explanation of {t}.", "Please help me understand {t}.",
    "What should I know about {t}?", "I never understood what {t} is.",
    "Quick question: what is {t}?", "what does {b} mean",
]

NUMBER = ("zero one two three four five six seven eight nine ten eleven twelve "
          "thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
          "twenty").split()

SUMS = [
    "What is {a} plus {b}?", "{a} plus {b}?", "How much is {a} plus {b}?",
    "What do you get if you add {a} and {b}?", "Add {a} and {b}.",
    "What is the sum of {a} and {b}?", "Please add {a} and {b}.",
    "Can you tell me what {a} plus {b} is?", "How much is {a} and {b} together?",
    "I have {a} apples and get {b} more. How many do I have?",
    "Tell me the sum of {a} and {b}.", "{a} and {b} make how many?",
    "Add {a} to {b}.", "If you add {a} and {b}, what is the result?",
    "Calculate {a} plus {b}.", "Put {a} and {b} together. How many are there?",
    "What does {a} plus {b} make?", "What do I get when I put {a} and {b} together?",
    "I add {a} to {b}. What is the result?", "Let us add {a} and {b}. What comes out?",
    "There are {a} birds in a tree, and {b} more come. How many are there now?",
    "If I have {a} books and buy {b} more, how many do I have?",
    "Hello! What is {a} plus {b}?", "My homework: {a} plus {b}.",
    "What is the total of {a} and {b}?", "If there are {a} cats and {b} dogs, how many animals are there?",
    "I want to add {a} and {b}. What is it?", "When we add {b} to {a}, what do we get?",
]
DIFFERENCES = [
    "What is {a} minus {b}?", "{a} minus {b}?", "How much is {a} minus {b}?",
    "Take {b} away from {a}.", "What is left if you take {b} from {a}?",
    "Please take {b} away from {a}.", "What is the difference of {a} and {b}?",
    "Can you tell me what {a} minus {b} is?",
    "I have {a} apples and eat {b}. How many are left?",
    "Tell me what {a} minus {b} is.", "Calculate {a} minus {b}.",
    "If I take {b} from {a}, how many are left?", "What does {a} minus {b} make?",
    "There are {a} birds in a tree, and {b} fly away. How many are left?",
    "Hello! What is {a} minus {b}?", "How many more than {b} is {a}?",
]
PRODUCTS = [
    "What is {a} times {b}?", "{a} times {b}?", "How much is {a} times {b}?",
    "Multiply {a} by {b}.", "Please multiply {a} by {b}.",
    "What is the product of {a} and {b}?", "Can you tell me what {a} times {b} is?",
    "There are {a} boxes with {b} apples each. How many apples are there?",
    "Calculate {a} times {b}.", "What does {a} times {b} make?",
    "Hello! What is {a} times {b}?", "If you multiply {a} by {b}, what is the result?",
]


def is_held_out(wording):
    """About one in eight, by the wording without case and spaces at its
    ends, so that a wording never stands on both sides."""
    return zlib.crc32(wording.strip().lower().encode()) % 8 == 0


def lower_first(q):
    return q if q.startswith("I ") else q[0].lower() + q[1:]


def without_article(term):
    for article in ("a ", "an ", "the "):
        if term.startswith(article):
            return term[len(article):]
    return term


def framed(q):
    """Every wording of a question; one that is no question stands alone."""
    if not q.endswith("?") or q.count(".") + q.count("?") > 1:
        return [q, q.lower(), "Hello! " + q, "Please help me. " + q,
                "I have a question. " + q, q + " Thank you!"]
    return [f.format(q=q, l=lower_first(q), n=q[:-1]) for f in FRAMES + LEADS]


def pair_entries():
    """Entries made from the small tables."""
    def table(name, rows, questions, answer, key=1):
        for row in rows:
            yield (f"{name}-{row[0]}", row[key],
                   [q.format(*row) for q in questions], [answer.format(*row)])
    yield from table("capital", CAPITALS, [
        "What is the capital of {0}?", "Which city is the capital of {0}?",
        "What is the name of the capital of {0}?", "What is {0}'s capital?",
        "Do you know {0}'s capital?", "Which city do we call the capital of {0}?",
        "I am looking for the capital of {0}. Which city is it?", "Name the capital of {0}."],
        "The capital of {0} is {1}.")
    both = OPPOSITES + [(b, a) for a, b in OPPOSITES]
    yield from table("opposite", both, [
        "What is the opposite of {0}?", "Which word is the opposite of {0}?",
        "What is the contrary of {0}?"], "The opposite of {0} is {1}.")
    yield from table("young", YOUNG, [
        "What is a young {0} called?", "What is the name of a baby {0}?",
        "What do we call a young {0}?", "What is the young of a {0} called?",
        "What do you call a baby {0}?", "How do people call a young {0}?",
        "What is the word for a young {0}?", "Which name has the young of a {0}?"], "A young {0} is called a {1}.")
    yield from table("says", SAYS, [
        "What sound does the {0} make?", "What does the {0} say?",
        "How does the {0} sound?"], "The {0} {1}.")
    yield from table("home", HOMES, [
        "Where does the {0} live?", "What is the home of the {0} called?",
        "In what kind of home does the {0} live?"], "The {0} lives in its {1}.")
    yield from table("eats", EATS, [
        "What does the {0} eat?", "What food does the {0} like?",
        "What do I feed to the {0}?"], "The {0} eats {1}.")
    for name, words in (("season", SEASONS), ("day", DAYS), ("month", MONTHS)):
        n = len(words)
        after = [(w, words[(i + 1) % n]) for i, w in enumerate(words)]
        before = [(w, words[i - 1]) for i, w in enumerate(words)]
        yield from table(f"after-{name}", after, [
            "Which " + name + " comes after {0}?", "What " + name + " follows {0}?",
            "What comes after {0}?"], "After {0} comes {1}.")
        yield from table(f"before-{name}", before, [
            "Which " + name + " comes before {0}?", "What comes before {0}?"],
            "Before {0} comes {1}.")


def spell(n):
    """The numbers to ninety-nine in words."""
    if n <= 20:
        return NUMBER[n]
    tens = ("twenty thirty forty fifty sixty seventy eighty ninety".split()
            [n // 10 - 2])
    return tens if n % 10 == 0 else f"{tens}-{NUMBER[n % 10]}"


def arithmetic_entries():
    """Sums of numbers up to twenty, differences, products to nine times nine; in
    digits, and the small ones in words too."""
    def entry(name, sign, forms, a, b, result):
        yield (f"{name}-{a}-{b}", str(result),
               [f.format(a=a, b=b) for f in forms] +
               [f"{a}{sign}{b}", f"{a} {sign} {b} =", f"What is {a} {sign} {b}?"],
               [f"{a} {name} {b} is {result}."])
        if a <= 10 and b <= 10:
            x, y, z = spell(a), spell(b), spell(result)
            yield (f"{name}-{x}-{y}", z,
                   [(f.format(a=x, b=y))[0].upper() + f.format(a=x, b=y)[1:]
                    for f in forms],
                   [f"{x[0].upper()}{x[1:]} {name} {y} is {z}."])
    for a in range(21):
        for b in range(21):
            yield from entry("plus", "+", SUMS, a, b, a + b)
    for a in range(21):
        for b in range(a + 1):
            yield from entry("minus", "-", DIFFERENCES, a, b, a - b)
    for a in range(2, 10):
        for b in range(2, 10):
            yield from entry("times", "*", PRODUCTS, a, b, a * b)


def make_turns():
    """(train, heldout): lists of dicts key, group, keywords, question,
    answer. Every key has some wording in training."""
    groups = {"fact": [], "sum": []}
    for term, keywords, answers in TERMS:
        bare = without_article(term)
        forms = [m.format(t=term, b=bare) for m in MEANINGS]
        groups["fact"].append((f"term-{bare}", keywords, forms, answers))
    for key, keywords, questions, answers in FACTS + list(pair_entries()):
        forms = [f for q in questions for f in framed(q)]
        forms += [f for q in MORE.get(key, ()) for f in (q, *framed(q)[::7])]
        groups["fact"].append((key, keywords, forms, answers))
    groups["sum"] = list(arithmetic_entries())
    train, heldout = [], []
    for group, entries in groups.items():
        for key, keywords, forms, answers in entries:
            for k, form in enumerate(forms):
                turn = {"key": key, "group": group,
                        "keywords": keywords.split("|"), "question": form,
                        "answer": answers[k % len(answers)]}
                for word in turn["keywords"]:
                    assert group == "sum" or any(
                        w.lower() in a.lower() for a in answers
                        for w in turn["keywords"]), (key, word)
                (heldout if is_held_out(form) else train).append(turn)
    return train, heldout


def has_keyword(answer, keywords):
    """The check of issue and README: any keyword, in any case; a number must
    stand alone."""
    text = answer.lower()
    for word in keywords:
        if word.isdigit():
            tokens = "".join(c if c.isalnum() else " " for c in text).split()
            if word in tokens:
                return True
        elif word.lower() in text:
            return True
    return False
