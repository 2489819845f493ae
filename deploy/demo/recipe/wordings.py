"""More ways to say the same: other beginnings for the plots of stories, and
other ways to ask what facts.py knows.

BEGINNINGS: plot -> beats that may stand for its first one. They come to the
point sooner, or later, than the first beat of plots.py."""

BEGINNINGS = {
    "lost thing": [
        "/{H} had lost {his} {thing}. [In the morning it had still been there.|It was nowhere to be seen.]",
        "/\"[Where is my {thing}?|My {thing} is gone!]\" cried {H} [one morning|one day]. It had been there the night before."],
    "learning": [
        "/{H} had one great wish: {he} wanted to learn to {skill0}. [Everybody else could do it.|But nobody had ever shown {him} how.]",
        "/{H} could not {skill0}. [It made {him} sad.|All the others could, and {he} wanted to learn it too.]",
        "/How {H} wished that {he} could {skill0}! {F} could do it well."],
    "broken bridge": [
        "/There was a [great|terrible] storm, and it broke the bridge over the [river|stream].",
        "/It rained for three days, and then the bridge over the [river|stream] was [broken|gone].",
        "/A storm came in the night. The wind howled, and the water rose. In the morning there was no bridge any more."],
    "hungry stranger": [
        "/{H} had cooked some {food} for supper. Just then [there was a knock at the door|something scratched at the door].",
        "/It was a [cold|stormy] night, and somebody knocked at the door of {H}."],
    "cake": [
        "/{H} wanted to make some {food}. It was to be a surprise, for {F} had a birthday.",
        "/Tomorrow was the birthday of {F}. \"[I will make some {food}|There must be some {food}],\" thought {H}."],
    "slow seed": [
        "/{E^} gave {H} a seed. \"A {plant} sleeps in it,\" said {E}. \"[Be good to it|It needs water and time].\"",
        "/One day {H} got a [small|tiny] seed from {E}. It was the seed of a {plant}.",
        "/{H} had a seed. {E^} had given it to {him} in spring. \"It is the seed of a {plant},\" {E} had said."],
    "ill friend": [
        "/{F} was ill. [The doctor said that {fhe} had to stay in bed.|For days {fhe} had not come out to play.]",
        "/{H} heard that {F} was ill and had to stay in bed."],
    "broken vase": [
        "/{H} broke the {thing} of {E}. It happened {how}.",
        "/There was a loud crash. {H} stood still. The {thing} was broken! {He} had done it {how}."],
    "race": [
        "/Today was the day of the great race. The winner was to get {prize}.",
        "/There was a race [every year|every spring], and everybody came to see it. The prize was {prize}."],
    "lost in fog": [
        "/{H} was alone in the [forest|hills]. {He} was looking for [berries|nuts], and did not watch the way.",
        "/{H} went for a long walk. {He} went up and down [the hills|through the forest], farther than ever before."],
    "noise at night": [
        "/It was night, and {H} could not sleep. Tap, tap, tap, it went in the dark.",
        "/One night {H} heard a strange noise. Tap, tap, tap! What could it be?"],
    "kite in the tree": [
        "/{H} got a new {thing}. At once {he} ran out to play with it.",
        "/{H} was playing outside with a new {thing}."],
    "new in the place": [
        "/{H} was new here. {He} did not know anybody yet. The others played together, and {H} only watched them.",
        "/{H} had no friends yet, because {he} had just come to live here. Every day {he} watched the others play."],
    "treasure map": [
        "/{H} found an old map. There was {mark} on it! [It had been under a loose board.|It had been in an old book.]",
        "/One morning {H} saw something in [an old bottle|an old box|a hollow wall]. It was a paper, a very old one. It was a treasure map! {mark^} was on it.",
        "/{H} found a map in the attic. It showed the hill, the river and the wood, and there was {mark} on it.",
        "/In an old [book|coat] {H} found a piece of paper. \"It is a map!\" {he} cried. Somebody had drawn {mark} on it."],
    "winter birds": [
        "/It was a hard winter. In the snow {H} found a little {bird} that could not fly any more.",
        "/Snow fell and fell. One day {H} found a {bird} lying in front of the door."],
    "stopped clock": [
        "/One day the big clock in the {place} stood still. Nobody knew what time it was.",
        "/The clock in the {place} had stopped. Everybody came too late, or too early."],
    "dry stream": [
        "/The stream had no more water. [It had not rained for a long time.|Everybody was thirsty.]",
        "/It was a hot summer, and one day the stream was dry. The flowers hung their heads."],
    "lost coin": [
        "/{H} was sent to the market with a silver coin, to buy {buy}. It was the last coin of {E}.",
        "/\"Buy {buy} for me,\" said {E}, and gave {H} a silver coin. {H} went to the market with it."],
    "song contest": [
        "/{H} could sing like nobody else. But {he} was too shy to sing when others could hear {him}.",
        "/{H} sang only when {he} was alone, although {he} had a beautiful voice."],
    "spilled paint": [
        "/{H} was painting a picture for {E}. It was to be the finest picture of all, and it was nearly done.",
        "/{H} liked to paint. One day {he} painted a large picture for {E}."],
    "fallen bird": [
        "/{H} found a tiny {bird}. It had fallen out of its nest.",
        "/One morning {H} heard a small cry. A young {bird} lay in the grass under a tree."],
    "medicine": [
        "/{E^} was very ill. \"Only tea of {herb} can help,\" everybody said. But {herb} grew far away, behind the mountain.",
        "/{H} was worried, because {E} was ill. {E^} needed {herb}, and that grew only on the far side of the forest."],
    "lighthouse": [
        "/A storm came up over the sea. {H} looked out and saw that the light of the lighthouse was out!",
        "/{H} lived near a lighthouse. One night there was a storm, and the great lamp did not shine."],
    "three wishes": [
        "/{H} heard a small voice. It was {fish} that hung in a net. \"Help me,\" it said, \"and you may make three wishes.\"",
        "/One morning {H} found {fish} that could not get free. \"Please help me,\" it said. \"Then you have three wishes.\""],
    "lonely giant": [
        "/There was a {who} on the mountain. Nobody had ever seen it, but everybody was afraid of it.",
        "/Every night a loud howl came from the mountain. \"That is the {who},\" everybody said, and shut the windows."],
    "quarrel": [
        "/{H} and {F} found a {thing}. They both wanted to have it. \"It is mine!\" cried {H}. \"No, mine!\" cried {F}.",
        "/One day {H} and {F} had a quarrel about a {thing}. \"I saw it first!\" they both cried."],
    "moon in the water": [
        "/{H} looked into the [pond|lake|well], and there was the moon! \"I want to have it,\" said {H}.",
        "/It was night, and the moon lay in the water of the [pond|lake]. \"How bright it is!\" said {H}. \"I will catch it.\"",
        "/One evening {H} saw something bright in the [lake|pond]. It was the moon. \"I will take it home,\" said {H}."],
    "slow computers": [
        "/In {H}'s school stood a row of old computers. Nobody used them any more. \"They are too slow,\" said {E}.",
        "/{H} found six old computers in a room of the school. \"They are of no use,\" said {E}.",
        "/{E^} wanted to throw away the old computers of the school. They were dusty and slow."],
    "letter": [
        "/{H} had to carry a letter. {E^} had written it to {Fintro}, who lived {far}.",
        "/\"Who can take this letter to {F}?\" asked {E}. It was a long way, for {F} lived {far}. \"I can,\" said {H}."],
    "boasting": [
        "/\"Nobody can jump as far as I can,\" {H} liked to say. \"I can jump over the [big brook|wide ditch].\"",
        "/{H} told everybody that {he} could jump over the [big brook|wide ditch]. It was not true."],
    "last piece": [
        "/There was only one piece left of the {food} that {E} had made. {H} wanted to have it.",
        "/{H} was hungry. On the table stood the last piece of the {food} that {E} had made."],
    "stuck boat": [
        "/{H} wanted to sell {load} at the market, and {he} had a boat that {he} had built {himself}. {F} came along.",
        "/{H} and {F} were on the river with a boat full of {load}. They were on the way to the market."],
}

# Something said about potluck, then a question; and the same about a worker
# that is lost. Any question fits any sentence.
HAVE_POTLUCK = [
    "I have potluck on my computer now.", "A friend showed me potluck.",
    "There is a program called potluck.", "We have set up potluck at home.",
    "I found potluck on the web.", "Our teacher uses potluck.", "I heard of potluck.",
    "My brother gave me potluck.", "Potluck is running now.", "I am trying potluck.",
    "Today I got potluck.", "I started potluck for the first time.", "You are part of potluck.",
    "I want to try potluck.", "Somebody told me to use potluck.", "So this is potluck.",
]
ASK_POTLUCK = [
    "What is it good for?", "What can I do with it?", "Why would I want it?",
    "What is the point of it?", "What does it do?", "What do people use it for?",
    "Why does it exist?", "What should I use it for?", "What is the use of it?",
    "How does it help me?", "What was it made for?", "What is it for?",
    "What do I need it for?", "What is the purpose of it?", "But what for?",
]
WORKER_GONE = [
    "A worker has lost its power.", "My brother turned off a worker.",
    "The cable of a worker was pulled out.", "A worker has crashed.",
    "One laptop of the pool fell asleep.", "I have shut down one of the workers.",
    "We lost a worker.", "A computer of the pool was turned off.",
    "One of the workers is gone.", "I closed my laptop, and it was a worker.",
    "A worker does not answer any more.", "They unplugged a worker.",
    "The power went out at one of the workers.", "One worker was stopped.",
]
ASK_GONE = [
    "What happens now?", "What will the pool do?", "Is the answer lost?", "What comes next?",
    "Does the pool stop?", "What does potluck do now?", "What now?", "And now?",
    "Will it go on?", "What will the coordinator do?", "Is that a problem?",
    "What is going to happen?", "Can the pool go on?", "What happens to my answer?",
]
OLD_COMPUTER = [
    "an old PC", "my old desktop", "a ten years old notebook", "my grandmother's computer",
    "a slow laptop", "an old office computer", "a used laptop", "my old laptop",
    "a computer from the attic", "an old school computer", "an old machine",
]
ASK_OLD = [
    "Can {s} join a pool?", "Could {s} help in a pool?", "Is {s} good enough for potluck?",
    "May {s} be a worker?", "Would {s} be of use in a pool?", "Can I use {s} as a worker?",
    "Can {s} be part of a pool?", "Could {s} be used with potluck?",
    "Is {s} welcome in the pool?", "I have {s}. Can it join the pool?",
    "I found {s}. Could it be a worker?", "Is it possible to add {s} to the pool?",
    "Could I let {s} join a potluck pool?", "Is {s} too slow for potluck?",
]


def told_and_asked(told, asked):
    return [t + " " + a for t in told for a in asked]


# key of facts.py -> more questions
MORE = {
    "potluck-why": told_and_asked(HAVE_POTLUCK, ASK_POTLUCK) + [
        "What is the purpose of potluck?", "Explain the use of potluck.",
        "Why should I install potluck?", "Why do we need potluck?"],
    "potluck-lose": told_and_asked(WORKER_GONE, ASK_GONE),
    "potluck-pc": [a.format(s=s)[0].upper() + a.format(s=s)[1:]
                   for s in OLD_COMPUTER for a in ASK_OLD],
    "potluck-gpu": ["Will it work without a graphics card?", "Is a graphics card needed?",
                    "My computer has no graphics card. Does potluck run on it?"],
    "potluck-join": ["I have one more computer. How do I add it?",
                     "What do I type to make a computer a worker?",
                     "How do I put one more computer into the pool?"],
    "potluck-start": ["What do I type to start a pool?", "I want to start a pool. How do I begin?",
                      "How do I run a coordinator?", "How is a pool started?"],
    "potluck-same": ["Is the answer of a pool as good as that of one computer?",
                     "Do more workers change what the model says?"],
    "potluck-name": ["Why does it have the name potluck?", "What has a meal to do with potluck?",
                     "Who thought of the name potluck, and why?"],
    "potluck-split": ["How does the pool share a model?", "Which part of a model does a worker get?",
                      "How are the layers of a model dealt out?"],
    "potluck-internet": ["Can I use potluck without the internet?",
                         "Do my questions leave my network?", "Does a pool work offline?"],
    "potluck-ram": ["Why does a pool with more computers run larger models?",
                    "What is most needed in a pool?", "What should a good worker have?"],
    "me-who": ["Who am I talking to?", "Can you say something about yourself?",
               "Tell me who you are.", "May I ask who you are?", "What is this program?",
               "Say who you are, please.", "Do you have a name?", "Who is speaking?",
               "Could you introduce yourself?", "I do not know you. Who are you?",
               "Who are you, and what are you?", "Would you tell me who you are?",
               "What sort of program are you?", "Who is there?", "Hello, who is this?"],
    "me-can": ["What may I ask?", "What are you good at?", "What can I do with you?",
               "Which questions can you answer?"],
    "me-made": ["Who wrote you?", "Who are your makers?", "Where were you made?"],
    "me-size": ["Are you small?", "How many megabytes do you have?", "What is your size?"],
    "me-wrong": ["Can you be wrong?", "Is everything you say true?", "Should I check what you say?"],
    "me-feel": ["Are you happy?", "Can you be angry?", "Do you feel pain?"],
    "lm-work": ["How does a model make text?", "How do you find the next word?",
                "In what way does a language model answer?"],
    "lm-learn": ["How were you trained?", "How does a model get better?", "How do models learn?"],
    "lm-moe": ["What are experts in a model good for?", "Why not use only one large expert?",
               "What is the advantage of several experts?", "What do we gain with many experts?",
               "Why does a layer have more than one expert?", "What is the use of experts in a model?",
               "Why are there many experts and not one?", "Why do you have eight experts?",
               "What is the point of experts?", "Why split a layer into experts?",
               "Why does a model have experts at all?", "How do several experts help a model?",
               "For what reason do models have experts?"],
    "lm-router": ["How does the router choose?", "Which experts does the router pick?",
                  "What is the job of the router in a layer?"],
    "planet-big": ["Name the largest planet.", "Which planet is bigger than all others?"],
    "ocean-big": ["Name the largest ocean.", "Which ocean is bigger than all others?"],
    "mountain-high": ["Name the highest mountain.", "Which mountain is higher than all others?"],
    "sun-rise": ["In which direction does the sun rise?", "Where does the sun come up?"],
    "sun-set": ["In which direction does the sun set?", "Where does the sun go down?"],
    "water-freeze": ["What is the temperature at which water freezes?", "When does water become ice?"],
    "water-boil": ["What is the temperature at which water boils?", "When does water become steam?"],
}
