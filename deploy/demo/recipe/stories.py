"""Short stories for children from a grammar.

The little language of the templates: [a|b|c] picks one and may nest; {slot}
is replaced; {slot^} begins with a capital. The slots every plot may use:

    {H} {he} {him} {his} {himself}    the hero
    {F} {fhe} {fhim} {fhis} {Fintro}  the other one; Fintro at first sight
    {E}                               somebody older

A (hero, plot) pair is held out, one in sixteen, by its name alone: so no
story of that hero in that plot is ever trained on."""
import re
import zlib

import words
from plots import ANIMAL, CHILD, PLOTS
from wordings import BEGINNINGS

PRONOUNS = {"he": ("he", "him", "his", "himself"),
            "she": ("she", "her", "her", "herself")}

OPENINGS = [
    "[Once upon a time|Once] there was {a:look} {kind} named {H}. {H} lived {home}.",
    "[Once upon a time|Long ago], {home}, there lived {a:look} {kind} named {H}.",
    "There once was {a:look} {kind} named {H}, who lived {home}.",
    "{home^} lived {a:look} {kind}. {His} name was {H}.",
    "{H} was {a:look} {kind} who lived {home}.",
]
ABOUT = [
    "{H} liked {like}.", "More than anything, {he} liked {like}.",
]
ABOUT_TRAIT = [  # where the opening names no trait
    "{H} was {trait} and liked {like}.",
    "{He} was {trait}, and more than anything {he} liked {like}.",
    "Everybody knew that {H} was {trait}. On free days {he} liked {like}.",
    "{He} liked {like}, and {he} was {trait}.",
]
WEATHER = [
    "It was a {weather} day. {weather_line}",
    "It was {a:weather} [morning|day]. {weather_line}",
    "{weather_line}",
    "",
]
# Plots whose first beat says nothing of the day.
WEATHER_FITS = ("cake", "fallen bird", "lost coin", "new in the place",
                "spilled paint", "kite in the tree", "last piece", "lost thing")
CLOSE = [
    "The end.", "", "", "And that is the end of the story.",
    "And so the story ends well.",
]


def pick(rng, text):
    """Resolves [a|b|c], the innermost first."""
    inner = re.compile(r"\[([^\[\]]*)\]")
    while True:
        m = inner.search(text)
        if not m:
            return text
        text = text[:m.start()] + rng.choice(m[1].split("|")) + text[m.end():]


def article(word):
    vowel = word[0].lower() in "aeiou" or word.startswith("honest")
    return ("an " if vowel else "a ") + word


def capital(text):
    return text[:1].upper() + text[1:]


def fill(text, slots):
    def one(m):
        key, cap = m[1], m[1].endswith("^")
        key = key.rstrip("^")
        if key.startswith("a:"):
            return article(slots[key[2:]])
        if key in slots:
            return capital(slots[key]) if cap else slots[key]
        low = key[0].lower() + key[1:]  # {He}: {he} with a capital
        return capital(slots[low])
    while "{" in text:  # a slot's value may hold slots
        text = re.sub(r"\{([^{}]*)\}", one, text)
    return text


def is_held_out(hero, plot):
    return zlib.crc32(f"{hero}/{plot}".encode()) % 16 == 0


def make_character(rng, animal, taken):
    """A name nobody else has, what they are, and he or she."""
    if animal:
        kind, look, home = rng.choice(words.ANIMALS)
        names = words.ANIMAL_NAMES
        look = rng.choice((look, look, "little", "young", rng.choice(words.TRAITS)))
    else:
        kind, pronoun = rng.choice((("girl", "she"), ("boy", "he")))
        names = words.GIRLS if kind == "girl" else words.BOYS
        look = rng.choice(("little", "young", "small", rng.choice(words.TRAITS)))
        home = rng.choice(words.PLACES)
    name = rng.choice([n for n in names if n not in taken])
    if animal:  # a name is always he or always she
        pronoun = ("he", "she")[zlib.crc32(name.encode()) % 2]
    return {"name": name, "kind": kind, "look": look, "home": home,
            "pronoun": pronoun}


def make_slots(rng, plot, want):
    cast, _, extra, _ = PLOTS[plot]
    animal = cast == ANIMAL or (cast != CHILD and rng.random() < 0.4)
    if want and "animal" in want:
        animal = want["animal"]
    hero = make_character(rng, animal, ())
    if want:
        hero.update({k: v for k, v in want.items() if k in hero})
    friend = make_character(rng, animal, (hero["name"],))
    while animal and friend["kind"] == hero["kind"]:
        friend = make_character(rng, animal, (hero["name"],))
    elder, _ = rng.choice(words.WISE_ANIMALS if animal else words.ELDERS)
    s = {"H": hero["name"], "F": friend["name"], "E": elder,
         "kind": hero["kind"], "look": hero["look"], "home": hero["home"]}
    for prefix, who in (("", hero), ("f", friend)):
        for key, word in zip(("he", "him", "his", "himself"),
                             PRONOUNS[who["pronoun"]]):
            s[prefix + key] = word
    s["Fintro"] = f"{article(friend['kind'])} named {friend['name']}"
    s["trait"] = rng.choice(words.TRAITS)
    s["like"] = rng.choice(words.LIKES)
    s["weather"], s["weather_line"] = rng.choice(words.WEATHER)
    fill_extra(rng, extra, s)
    return s


def fill_extra(rng, extra, s):
    """The plot's own slots; lists that are the same give different words."""
    used = set()
    for key, options in extra:
        value = rng.choice([o for o in options if o not in used])
        used.add(value)
        if isinstance(value, tuple):
            for i, part in enumerate(value):
                s[f"{key}{i}"] = part
        else:
            s[key] = value
    if "mark" in s:  # "a red cross": the red cross
        s["mark_word"] = s["mark"].split(" ", 1)[1]
    if "what0" in s:
        s["what_word"] = s["what0"].split(" ", 1)[1]


def introduce_friend(beats, s):
    """A plot that has no first meeting says at once who the friend is."""
    if any("{Fintro}" in b for b in beats):
        return ""
    return ("[{His} best friend was {Fintro}.|{He} had a good friend, "
            "{Fintro}.|{He} often played with {Fintro}.]")


FRIEND_KNOWN = ("broken bridge", "quarrel")  # say so themselves


def name_friend(beats):
    """The same beats, all picked; where the other one is first named, it is
    as {his} friend."""
    out, done = [], False
    for beat in beats:
        at = beat.find("{F}")
        if not done and at >= 0:
            start = re.search(r"(^/?|[.!?]\"? )$", beat[:at])
            beat = (beat[:at] + ("{His} friend " if start else "{his} friend ")
                    + beat[at:])
            done = True
        out.append(beat)
    return out


def make_story(rng, plot=None, want=None):
    """{"text", "hero", "plot", "opening"}: opening is the first sentences, up
    to where the plot begins."""
    plot = plot or rng.choice(list(PLOTS))
    _, moral, _, beats = PLOTS[plot]
    s = make_slots(rng, plot, want)
    opening = fill(pick(rng, rng.choice(OPENINGS)), s)
    plain = s["look"] in words.TRAITS
    about = fill(pick(rng, rng.choice(ABOUT if plain else
                                      ABOUT + ABOUT_TRAIT)), s)
    if rng.random() < 0.5:
        beats = [rng.choice(BEGINNINGS[plot])] + beats[1:]
    beats = [pick(rng, beat) for beat in beats]
    friend = fill(pick(rng, introduce_friend(beats, s)), s)
    # some stories begin at once, and say who the friend is when it comes
    at_once = rng.random() < 0.4
    if at_once:
        if friend and plot not in FRIEND_KNOWN:
            beats = name_friend(beats)
        about, friend = "", ""
    parts = [opening, about, friend]
    if plot in WEATHER_FITS:
        weather = rng.choice(WEATHER)
    else:
        weather = ""
    first = True
    text = " ".join(p for p in parts if p)
    for beat in beats:
        part = fill(beat.lstrip("/"), s)
        if first and weather:
            part = part + " " + fill(pick(rng, weather), s)
        # No paragraph begins with a name: a name is one piece of the
        # vocabulary with a space before it, and several without.
        begins = (beat.startswith("/") and not (first and at_once) and
                  not re.match(rf"({s['H']}|{s['F']})\b", part))
        first = False
        text += ("\n" if begins else " ") + part
    text += " " + fill(rng.choice(words.MORALS[moral]), s)
    close = rng.choice(CLOSE)
    if close:
        text += " " + close
    return {"text": text, "hero": s["H"], "plot": plot, "opening": opening}


REQUESTS = [
    "Tell me a story about {a} named {H}.", "Please tell me a story about {a} named {H}.",
    "Can you tell me a story about {a} called {H}?", "I would like to hear a story about {H}, {a}.",
    "Tell a story about {H}, who is {a}.", "Write a story about {a} named {H}.",
    "Please write a short story about {a} named {H}.", "A story about {a} named {H}, please.",
    "Do you know a story about {a} named {H}?", "My daughter wants a story about {a} named {H}.",
    "Tell me about {a} named {H}.", "Could you tell me a short story about {H}, {a}?",
]


def make_request(rng, story):
    """A story as an answer in chat."""
    m = re.search(rf"\b(\w+) named {story['hero']}|\b(\w+) who lived|(\w+)\. "
                  rf"(?:His|Her) name", story["opening"])
    kind = next(k for k in m.groups() if k)
    q = rng.choice(REQUESTS).format(a=article(kind), H=story["hero"])
    return q, story["text"]
