"""What the model is taught to answer: written by us, for it.

Each entry of FACTS is (key, keywords, questions, answers). Questions that end
in "?" are asked through the frames of chat.py; the others stand as they are.
An answer counts as right if it holds one of the keywords, in any case. The
questions of an entry mean the same, so any answer fits any of them.

TERMS are questions for the meaning of a word: (term, keywords, answers). The
many ways of asking for a meaning are in chat.py."""

TERMS = [
    # ---- potluck itself
    ("potluck", "pool|computers", [
        "Potluck joins several ordinary computers on a network into one pool, so that together they can run a large language model.",
        "Potluck is a program that lets several old computers share the work of one large language model."]),
    ("a pool", "computers", [
        "A pool is a group of computers that work on one model together. Each brings its memory and its processor."]),
    ("a coordinator", "plan|pool", [
        "The coordinator is the computer that leads a pool. It makes the plan, takes the questions and sends the answers back."]),
    ("a worker", "part|layers", [
        "A worker is a computer in the pool that holds a part of the model and computes with it."]),
    ("a shard", "part", [
        "A shard is the part of a model that one worker holds: some of its layers or some of its experts."]),
    ("a shard map", "worker", [
        "A shard map is a list that says which worker holds which part of the model."]),
    # ---- how a language model works
    ("a language model", "next|word", [
        "A language model is a program that has learned from text which word is likely to come next.",
        "A language model reads some text and guesses the next word, again and again, until the answer is done."]),
    ("a token", "piece", [
        "A token is a small piece of text: a word, a part of a word or a sign. A language model reads and writes tokens."]),
    ("a tokenizer", "pieces|tokens", [
        "A tokenizer cuts text into small pieces, the tokens, and gives each of them a number."]),
    ("a vocabulary", "tokens", [
        "The vocabulary of a model is the list of all tokens that it knows."]),
    ("a weight", "number", [
        "A weight is a number inside a model. Training changes the weights until the model guesses well."]),
    ("a neural network", "numbers|layers", [
        "A neural network is a program made of layers of numbers. It learns by changing those numbers a little at a time."]),
    ("a layer", "step", [
        "A layer is one step of a neural network. It takes a list of numbers and makes a new list from it."]),
    ("an expert", "part", [
        "An expert is a part of a layer that works only on some of the tokens. A router picks the experts for each token."]),
    ("a mixture of experts", "experts|router", [
        "A mixture of experts is a model whose layers hold several experts. For each token a router picks only a few of them, which saves work."]),
    ("attention", "earlier|words", [
        "Attention is how a model looks back at earlier words and decides which of them matter now."]),
    ("an embedding", "numbers", [
        "An embedding is a list of numbers that stands for the meaning of a token."]),
    ("training", "examples|text", [
        "Training means showing a model many examples and changing its weights a little after each, so that it guesses better."]),
    ("a prompt", "text|question", [
        "A prompt is the text that you give to a language model. The model goes on from there."]),
    ("a context window", "tokens", [
        "The context window is the number of tokens that a model can look back at."]),
    ("temperature", "random|chance", [
        "Temperature says how much chance a model uses when it picks the next word. At zero it always takes the likeliest word."]),
    ("quantization", "fewer|bits", [
        "Quantization stores the weights of a model with fewer bits, so that the model needs less memory."]),
    ("perplexity", "surprised", [
        "Perplexity measures how surprised a model is by a text. A lower number is better."]),
    ("a logit", "score", [
        "A logit is the score that a model gives to a token before it picks the next one."]),
    ("a cache", "again|near", [
        "A cache keeps results or data near at hand, so that they need not be fetched or computed again."]),
    # ---- computers
    ("a computer", "machine", [
        "A computer is a machine that follows instructions. It reads data, works on it and shows the result."]),
    ("a program", "instructions", [
        "A program is a list of instructions that a computer follows."]),
    ("a processor", "instructions", [
        "The processor is the part of a computer that carries out the instructions of programs."]),
    ("a core", "processor", [
        "A core is one of the working units of a processor. Several cores can work at the same time."]),
    ("memory", "data", [
        "Memory holds the data and programs that a computer is using right now. It is fast, but it forgets when the power goes off."]),
    ("a hard disk", "data|files", [
        "A hard disk keeps files and data, even when the power is off."]),
    ("a file", "data", [
        "A file is a piece of data with a name, kept on a disk."]),
    ("a folder", "files", [
        "A folder is a place on a disk that holds files and other folders."]),
    ("a bit", "zero|one", [
        "A bit is the smallest piece of data. It is either zero or one."]),
    ("a byte", "eight", [
        "A byte is eight bits. It can hold one letter or a small number."]),
    ("a kilobyte", "thousand", [
        "A kilobyte is about one thousand bytes."]),
    ("a megabyte", "million", [
        "A megabyte is about one million bytes."]),
    ("a gigabyte", "billion", [
        "A gigabyte is about one billion bytes."]),
    ("an operating system", "programs", [
        "An operating system is the program that runs all other programs and shares the computer among them. Linux is one."]),
    ("Linux", "operating system", [
        "Linux is a free operating system. It runs on small boards, on old computers and on the largest servers."]),
    ("a keyboard", "type|keys", [
        "A keyboard is a board with keys. You type letters and numbers with it."]),
    ("a mouse for a computer", "hand|pointer", [
        "A computer mouse is a small thing that you move with your hand. It moves the pointer on the screen."]),
    ("a screen", "pictures", [
        "A screen shows text and pictures from the computer."]),
    ("a printer", "paper", [
        "A printer puts text and pictures on paper."]),
    ("a bug in a program", "mistake", [
        "A bug is a mistake in a program. It makes the program do the wrong thing."]),
    ("source code", "text|people", [
        "Source code is the text of a program as people write it."]),
    ("a compiler", "source|code", [
        "A compiler turns source code into instructions that a processor can run."]),
    ("an algorithm", "steps", [
        "An algorithm is a list of clear steps that solves a problem."]),
    ("a loop", "again", [
        "A loop is a part of a program that is done again and again."]),
    ("a variable", "name|value", [
        "A variable is a name in a program that stands for a value."]),
    ("a function in a program", "name|part", [
        "A function is a part of a program with a name. Other parts can use it by that name."]),
    ("a password", "secret", [
        "A password is a secret word that shows who you are. Do not tell it to others."]),
    ("a backup", "copy", [
        "A backup is a second copy of your files, kept in a safe place."]),
    ("open source", "source code|read", [
        "Open source means that everybody may read, use and change the source code of a program."]),
    # ---- networks
    ("a network", "computers", [
        "A network is a group of computers that can send messages to each other."]),
    ("the internet", "networks|world", [
        "The internet is a network of networks. It joins computers all over the world."]),
    ("a local network", "home|near", [
        "A local network joins computers that are near each other, as in a home or a school."]),
    ("a router", "networks|packets", [
        "A router passes packets from one network to another and picks the way for them."]),
    ("a switch in a network", "cable|computers", [
        "A switch joins the computers of a local network by cable and sends each message only to the right one."]),
    ("a packet", "piece|small", [
        "A packet is a small piece of a message that travels through a network."]),
    ("an address in a network", "number", [
        "A network address is a number that says where a computer can be found."]),
    ("a port", "number", [
        "A port is a number that says which program on a computer a message is for."]),
    ("a server", "serves|answers", [
        "A server is a computer or program that answers the requests of others."]),
    ("a client", "asks", [
        "A client is a program that asks a server for something and uses the answer."]),
    ("a web browser", "pages", [
        "A web browser is a program that fetches web pages and shows them."]),
    ("a protocol", "rules", [
        "A protocol is a set of rules that both sides follow when they talk to each other."]),
    ("bandwidth", "data|second", [
        "Bandwidth says how much data can pass through a connection in one second."]),
    ("latency", "time", [
        "Latency is the time that a message needs to get to the other side."]),
    ("encryption", "secret|key", [
        "Encryption turns a message into a secret form that only somebody with the right key can read."]),
    ("a firewall", "blocks", [
        "A firewall blocks network messages that should not come in or go out."]),
    ("Ethernet", "cable", [
        "Ethernet is a way to join computers by cable. It is fast and steady."]),
    # ---- school
    ("a planet", "star|sun", ["A planet is a large round body that moves around a star, as the earth moves around the sun."]),
    ("a star", "gas|light", ["A star is a huge ball of hot gas that gives light. The sun is a star."]),
    ("the moon", "earth", ["The moon is a ball of rock that moves around the earth. It shines because the sun lights it."]),
    ("a volcano", "rock|lava", ["A volcano is a mountain with an opening where hot melted rock, called lava, can come out."]),
    ("an island", "water", ["An island is land with water on every side."]),
    ("a desert", "dry|rain", ["A desert is a very dry place where it hardly ever rains."]),
    ("a river", "water", ["A river is water that flows through the land, most often to the sea."]),
    ("a glacier", "ice", ["A glacier is a very large mass of ice that moves slowly down a valley."]),
    ("an earthquake", "ground", ["An earthquake is a shaking of the ground. It comes when large rocks under the earth move."]),
    ("gravity", "pulls", ["Gravity is the force that pulls things towards each other. It keeps us on the ground."]),
    ("a magnet", "iron", ["A magnet is a thing that pulls iron towards itself."]),
    ("a fossil", "stone|old", ["A fossil is what is left in stone of an animal or a plant that lived long ago."]),
    ("a mammal", "milk", ["A mammal is an animal that feeds its young with milk. Dogs, whales and people are mammals."]),
    ("an insect", "six", ["An insect is a small animal with six legs. Ants, bees and flies are insects."]),
    ("a reptile", "scales", ["A reptile is an animal with dry skin and scales. Snakes and lizards are reptiles."]),
    ("photosynthesis", "light", ["Photosynthesis is how plants make their food from light, water and air."]),
    ("a rainbow", "light|rain", ["A rainbow is a band of colors in the sky. It comes when sunlight passes through drops of rain."]),
    ("a triangle", "three", ["A triangle is a shape with three sides and three corners."]),
    ("a square", "four", ["A square is a shape with four equal sides and four equal corners."]),
    ("a circle", "round|middle", ["A circle is a round line. All its points are equally far from the middle."]),
    ("a noun", "word", ["A noun is a word for a person, a place or a thing."]),
    ("a verb", "word", ["A verb is a word that says what somebody does or what happens."]),
    ("an adjective", "word|describes", ["An adjective is a word that describes a noun, like red, small or happy."]),
    ("a map", "picture", ["A map is a picture of a place as seen from above."]),
    ("a compass", "north", ["A compass is a tool with a needle that points to the north."]),
    ("a thermometer", "temperature|warm", ["A thermometer is a tool that shows how warm or cold something is."]),
    ("a telescope", "far", ["A telescope is a tool that makes things that are far away look near."]),
    ("a microscope", "small", ["A microscope is a tool that makes very small things look large."]),
    ("a library", "books", ["A library is a place where you can read and borrow books."]),
    ("a museum", "old|art", ["A museum is a house where you can look at old things or at art."]),
]

FACTS = [
    # ---- potluck
    ("potluck-why", "memory|large", [
        "Why would I use potluck?", "What is potluck good for?",
        "Why do people put computers in a pool?",
        "What is the use of potluck?", "What can I do with potluck?",
        "What is potluck for?", "Why was potluck made?", "What does potluck do for me?",
        "What do I get from potluck?", "What problem does potluck solve?",
        "What do people use potluck for?", "I have never used potluck. What does it do?",
        "We have downloaded potluck. What can it do for us?",
        "Potluck runs on my computer now. What is it good for?"],
     ["One old computer has too little memory for a large model. With potluck, several of them share the model, so it fits."]),
    ("potluck-pc", "old|ordinary", [
        "What kind of computers does potluck need?", "Which computers can join potluck?",
        "Can old computers join a potluck pool?", "What hardware does potluck run on?",
        "Is an old computer good enough for the pool?", "Can I use my old laptop in a pool?",
        "May a slow computer be part of the pool?", "Would a ten years old computer be of any help?",
        "Are old machines welcome in a pool?", "My laptop is old. Can it still join?",
        "Could we use the old machines of our school?", "Do the computers of a pool have to be new?"],
     ["Ordinary computers will do, even old ones. Each needs some free memory and a network cable."]),
    ("potluck-gpu", "no", [
        "Does potluck need a graphics card?", "Do I need a graphics card for potluck?",
        "Must I buy a graphics card to use potluck?"],
     ["No. Potluck runs on ordinary processors and needs no graphics card."]),
    ("potluck-lose", "another|rest", [
        "What happens when a worker goes away?", "What does potluck do if a worker stops?",
        "What if one computer of the pool is switched off?", "What happens if a worker fails?",
        "A worker was turned off. What does the pool do?", "One of our computers has crashed. What happens next?",
        "I have pulled the plug of a worker. Is everything lost?",
        "What does the coordinator do when it loses a worker?",
        "Somebody closed the lid of a laptop that was a worker. What happens?",
        "Can the pool go on when a worker is gone?", "What becomes of the answer if a worker is switched off?",
        "A computer of the pool is gone. What now?"],
     ["The coordinator notices it, makes a new plan for the rest of the pool and goes on with the answer."]),
    ("potluck-join", "join", [
        "How do I add a computer to the pool?", "How does a new worker get into the pool?",
        "How can another computer become a worker?"],
     ["Start potluck join on it, with the address of the coordinator. Then it becomes a worker."]),
    ("potluck-start", "serve", [
        "How do I start a coordinator?", "How do I start a pool?",
        "Which command starts the coordinator?"],
     ["Run potluck serve with a model file. It starts the coordinator, and workers can join."]),
    ("potluck-same", "same", [
        "Does potluck give the same answer on one computer and on many?",
        "Does the number of computers change the answer of potluck?",
        "Will two workers give another answer than one worker?"],
     ["The answer is the same. Potluck computes in a fixed order, so one computer or twenty give the same result."]),
    ("potluck-c", "C", [
        "In which language is potluck written?", "What programming language does potluck use?",
        "Which language was potluck written in?"],
     ["Potluck is written in C."]),
    ("potluck-name", "share|brings", [
        "Why is it called potluck?", "Where does the name potluck come from?",
        "What does the name potluck mean?"],
     ["A potluck is a meal to which every guest brings a dish. In our pool every computer brings what it has, and all share."]),
    ("potluck-split", "layers|experts", [
        "How does potluck split a model?", "How is the model shared among the workers?",
        "How does potluck cut a model into parts?"],
     ["It gives each worker some of the layers, or some of the experts of a layer, as much as its memory can hold."]),
    ("potluck-internet", "no", [
        "Does potluck need the internet?", "Must the pool be on the internet?",
        "Does potluck send my questions to the internet?"],
     ["No. The pool works on your own network, and your questions stay there."]),
    ("potluck-ram", "memory", [
        "What limits the size of a model in the pool?", "What does a worker need most of all?",
        "What do more computers bring to the pool?"],
     ["Mostly memory. The more memory the computers have together, the larger the model can be."]),
    # ---- this model
    ("me-who", "small|language model", [
        "Who are you?", "What are you?", "Please introduce yourself.",
        "What is your name?", "Am I talking to a person?", "Are you a human?"],
     ["I am a small language model that was made to show how potluck works."]),
    ("me-can", "stories|questions", [
        "What can you do?", "What are you able to do?", "How can you help me?",
        "What can I ask you?", "What do you know about?"],
     ["I can tell short stories and answer simple questions about computers, networks and school."]),
    ("me-made", "potluck", [
        "Who made you?", "Who built you?", "Where do you come from?", "Who trained you?"],
     ["The people who write potluck made me. They also wrote the text that I learned from."]),
    ("me-size", "small|eight", [
        "How big are you?", "Are you a large model?", "How large is this model?"],
     ["I am very small: my file has less than eight megabytes. Large models are a thousand times bigger."]),
    ("me-wrong", "wrong|mistakes", [
        "Are you always right?", "Do you make mistakes?", "Can I trust your answers?"],
     ["I am small and I make mistakes, so my answer can be wrong. Please check it."]),
    ("me-feel", "feel|program", [
        "Do you have feelings?", "Can you feel sad?", "Are you alive?", "Do you get tired?"],
     ["I am a program, so I do not feel anything. But I can tell a story about feelings."]),
    ("me-experts", "eight", [
        "How many experts do you have?", "How many experts are in each of your layers?"],
     ["Each of my layers has eight experts, and two of them work on each token."]),
    ("me-layers", "six", [
        "How many layers do you have?", "How many layers are there in this model?"],
     ["I have six layers."]),
    # ---- language models
    ("lm-work", "next", [
        "How does a language model work?", "How do you make an answer?",
        "How does a language model write text?", "How do you think of what to say?"],
     ["A language model turns text into numbers, passes them through its layers and picks the next word. Then it starts again with one word more."]),
    ("lm-learn", "guess|text", [
        "How does a language model learn?", "How did you learn to write?",
        "How is a language model trained?"],
     ["It reads a lot of text and tries to guess each next word. After each guess its weights change a little, so that it does better."]),
    ("lm-understand", "patterns", [
        "Does a language model understand what it says?", "Do you understand me?",
        "Does a language model really think?"],
     ["It has learned patterns from text. It does not think as a person does."]),
    ("lm-memory", "memory|weights", [
        "Why does a large language model need so much memory?",
        "Why are large models so big?", "What makes a language model large?"],
     ["A large model has billions of weights, and all of them must be in memory."]),
    ("lm-moe", "few|some", [
        "Why does a mixture of experts save work?", "What is good about a mixture of experts?",
        "Why do models use experts?"],
     ["Only a few experts work on each token, so the model can know much and still be fast."]),
    ("lm-router", "experts", [
        "What does the router in a model do?", "How does a model pick its experts?",
        "Who picks the experts for a token?"],
     ["The router gives each expert a score for the token and picks the experts with the best scores."]),
    ("lm-hallucinate", "likely|true", [
        "Why do language models make things up?", "Why can a language model be wrong?",
        "Why does a model sometimes say things that are not true?"],
     ["A model writes what is likely, not what is true. When it does not know something, it guesses."]),
    ("lm-slow", "memory", [
        "Why is a large model slow on an old computer?", "What makes a language model slow?",
        "What limits the speed of a language model?"],
     ["For each word the computer must read the weights from memory, and that takes time."]),
    ("lm-number", "numbers", [
        "What does a model see instead of words?", "How are words stored in a model?",
        "What does a model turn words into?"],
     ["A model works with numbers. Each token becomes a list of numbers."]),
    # ---- computers and networks
    ("pc-brain", "processor", [
        "Which part of a computer does the work?", "What is the brain of a computer?",
        "What part of a computer carries out instructions?"],
     ["The processor does the work. It carries out the instructions."]),
    ("pc-off", "memory", [
        "What does a computer forget when it is switched off?",
        "What is lost when the power goes off?"],
     ["Everything in memory is lost. Files on the disk stay."]),
    ("pc-binary", "zero|one", [
        "How does a computer store numbers?", "Which digits does a computer use?",
        "What are the two digits of a computer?"],
     ["A computer stores everything with the digits zero and one."]),
    ("pc-bits", "eight", [
        "How many bits are in a byte?", "How many bits does a byte have?",
        "Of how many bits is a byte made?"],
     ["A byte has eight bits."]),
    ("pc-ram-disk", "memory", [
        "Which is faster, memory or a disk?", "Is memory faster than a disk?",
        "What is faster: a disk or memory?"],
     ["Memory is faster than a disk, but it forgets when the power is off."]),
    ("pc-hot", "fan", [
        "What keeps a computer cool?", "Why does a computer have a fan?",
        "What is the fan in a computer for?"],
     ["The processor gets hot when it works. A fan blows the warm air away."]),
    ("pc-slow", "memory|disk", [
        "Why is my computer slow?", "Why does a computer get slow?",
        "My computer is slow. What can be the reason?"],
     ["Perhaps its memory is full and it has to use the disk. Close some programs and try again."]),
    ("pc-safe", "password|updates", [
        "How do I keep my computer safe?", "How can I protect my computer?",
        "What should I do to keep my computer safe?"],
     ["Install updates, use long passwords and keep a backup of your files."]),
    ("pc-restart", "restart", [
        "What should I try first when a program hangs?", "My program does not answer. What can I do?",
        "What can I do if my computer hangs?"],
     ["Wait a little, then close the program. If that does not help, restart the computer."]),
    ("net-cable", "cable", [
        "Which is faster, a cable or wireless?", "Is a cable better than wireless?",
        "Should I use a cable or wireless for my pool?"],
     ["A cable is faster and more steady than wireless."]),
    ("net-find", "address", [
        "How do computers find each other in a network?",
        "How does a message get to the right computer?"],
     ["Each computer has an address. Every packet carries the address it must go to."]),
    ("net-lost", "again", [
        "What happens when a packet is lost?", "What if a message gets lost in the network?",
        "What does a computer do when a packet does not arrive?"],
     ["The sender notices that no answer comes and sends the packet again."]),
    ("net-server-client", "client", [
        "What is the difference between a server and a client?",
        "How do a server and a client work together?"],
     ["The client asks and the server answers."]),
    ("net-slow", "latency|busy", [
        "Why is my network slow?", "What makes a network slow?"],
     ["Perhaps it is busy with other data, or the latency is high because the way is long."]),
    ("net-secret", "encryption", [
        "How can I send a secret message through a network?",
        "What keeps messages in a network secret?"],
     ["Use encryption. Then only somebody with the right key can read the message."]),
    # ---- school: the world
    ("sky-blue", "light", ["Why is the sky blue?", "What makes the sky blue?", "Why does the sky look blue?"],
     ["Air spreads the blue part of sunlight more than the rest, so blue light comes to us from the whole sky."]),
    ("day-night", "turns", ["Why is there day and night?", "What makes day and night?", "Why does it get dark at night?"],
     ["The earth turns. It is day on the side that looks to the sun and night on the other side."]),
    ("seasons-why", "tilted", ["Why are there seasons?", "What causes the seasons?", "Why is it cold in winter and warm in summer?"],
     ["The earth is tilted. As it moves around the sun, each half gets more sunlight in its summer and less in its winter."]),
    ("rain-why", "clouds|drops", ["Where does rain come from?", "Why does it rain?", "How is rain made?"],
     ["The sun warms water, which rises into the air and makes clouds. When the drops get heavy, they fall as rain."]),
    ("ice-float", "lighter", ["Why does ice float?", "Why does ice swim on water?"],
     ["Ice is lighter than the same amount of water, so it floats."]),
    ("plant-need", "light", ["What does a plant need to grow?", "What do plants need?", "How do I help a plant to grow?"],
     ["A plant needs light, water and air, and good soil."]),
    ("leaf-fall", "water|winter", ["Why do trees lose their leaves?", "Why do leaves fall in autumn?"],
     ["In winter a tree cannot get enough water for its leaves, so it lets them fall in autumn."]),
    ("bee-honey", "bees", ["Who makes honey?", "Where does honey come from?", "Which insect makes honey?"],
     ["Bees make honey. They gather sweet juice from flowers."]),
    ("spider-legs", "eight", ["How many legs does a spider have?", "How many legs has a spider?"],
     ["A spider has eight legs."]),
    ("insect-legs", "six", ["How many legs does an ant have?", "How many legs does an insect have?", "How many legs does a bee have?"],
     ["It has six legs, as all insects have."]),
    ("days-week", "seven", ["How many days are in a week?", "How many days does a week have?"],
     ["A week has seven days."]),
    ("months-year", "twelve", ["How many months are in a year?", "How many months does a year have?"],
     ["A year has twelve months."]),
    ("hours-day", "twenty-four", ["How many hours are in a day?", "How many hours does a day have?"],
     ["A day has twenty-four hours."]),
    ("minutes-hour", "sixty", ["How many minutes are in an hour?", "How many minutes does an hour have?"],
     ["An hour has sixty minutes."]),
    ("seconds-minute", "sixty", ["How many seconds are in a minute?", "How many seconds does a minute have?"],
     ["A minute has sixty seconds."]),
    ("days-year", "365", ["How many days are in a year?", "How many days does a year have?"],
     ["A year has 365 days, and one more every fourth year."]),
    ("planets-n", "eight", ["How many planets move around our sun?", "How many planets are there around the sun?"],
     ["Eight planets move around our sun."]),
    ("planet-big", "Jupiter", ["Which planet is the largest?", "What is the largest planet?", "What is the biggest planet of our sun?"],
     ["Jupiter is the largest planet of our sun."]),
    ("planet-near", "Mercury", ["Which planet is nearest to the sun?", "What is the planet closest to the sun?"],
     ["Mercury is the planet nearest to the sun."]),
    ("planet-red", "Mars", ["Which planet is red?", "What is the red planet?", "Which planet is called the red planet?"],
     ["Mars is called the red planet, because its ground is full of rust."]),
    ("planet-ring", "Saturn", ["Which planet has large rings?", "Which planet is known for its rings?"],
     ["Saturn is known for its large rings."]),
    ("ocean-big", "Pacific", ["Which ocean is the largest?", "What is the largest ocean?", "What is the name of the biggest ocean?"],
     ["The Pacific is the largest ocean."]),
    ("mountain-high", "Everest", ["Which mountain is the highest?", "What is the highest mountain on earth?", "What is the name of the tallest mountain?"],
     ["Mount Everest is the highest mountain on earth."]),
    ("animal-tall", "giraffe", ["Which animal is the tallest?", "What is the tallest animal?"],
     ["The giraffe is the tallest animal."]),
    ("animal-big", "whale", ["Which animal is the largest?", "What is the biggest animal?", "What is the largest animal on earth?"],
     ["The blue whale is the largest animal."]),
    ("animal-fast", "cheetah", ["Which animal runs fastest?", "What is the fastest animal on land?"],
     ["The cheetah is the fastest animal on land."]),
    ("water-freeze", "zero", ["When does water freeze?", "At how many degrees does water freeze?"],
     ["Water freezes at zero degrees and becomes ice."]),
    ("water-boil", "hundred", ["When does water boil?", "At how many degrees does water boil?"],
     ["Water boils at one hundred degrees and becomes steam."]),
    ("sun-what", "star", ["Is the sun a star?", "Is the sun a planet or a star?", "What kind of body is the sun?"],
     ["The sun is a star. It looks so large because it is much nearer than the other stars."]),
    ("sun-rise", "east", ["Where does the sun rise?", "On which side does the sun come up?"],
     ["The sun rises in the east."]),
    ("sun-set", "west", ["Where does the sun set?", "On which side does the sun go down?"],
     ["The sun sets in the west."]),
    ("heart-do", "blood", ["What does the heart do?", "What is the heart for?", "Why do we have a heart?"],
     ["The heart pumps blood through the body."]),
    ("lungs-do", "breathe|air", ["What do the lungs do?", "What are lungs for?"],
     ["With our lungs we breathe. They take what we need from the air."]),
    ("sleep-why", "rest", ["Why do we sleep?", "Why do people need sleep?", "What is sleep good for?"],
     ["Body and mind need rest. While we sleep, the body repairs itself and the mind sorts what it has learned."]),
    ("teeth-why", "clean|brush", ["How do I keep my teeth healthy?", "Why should I brush my teeth?"],
     ["Brush your teeth twice a day, so that they stay clean and healthy."]),
    ("colors-green", "green", ["What color do blue and yellow make?", "Which color comes from blue and yellow?"],
     ["Blue and yellow make green."]),
    ("colors-orange", "orange", ["What color do red and yellow make?", "Which color comes from red and yellow?"],
     ["Red and yellow make orange."]),
    ("colors-purple", "purple", ["What color do red and blue make?", "Which color comes from red and blue?"],
     ["Red and blue make purple."]),
    ("letters-n", "twenty-six", ["How many letters are in the English alphabet?", "How many letters does the alphabet have?"],
     ["The English alphabet has twenty-six letters."]),
    ("bread-from", "flour", ["What is bread made of?", "How is bread made?"],
     ["Bread is made of flour, water and salt, and it is baked in an oven."]),
    ("paper-from", "wood", ["What is paper made of?", "Where does paper come from?"],
     ["Paper is made of wood."]),
    ("glass-from", "sand", ["What is glass made of?", "From what do people make glass?"],
     ["Glass is made of sand that was melted in great heat."]),
    ("milk-from", "cow", ["Where does milk come from?", "Which animal gives us milk?"],
     ["Most of our milk comes from cows."]),
    ("wool-from", "sheep", ["Where does wool come from?", "Which animal gives us wool?"],
     ["Wool comes from sheep."]),
    # ---- manners
    ("hello", "hello", ["Hello!", "Hi there!", "Good morning!", "Good evening!", "Hey!"],
     ["Hello! I can tell you a story or answer a question. What would you like?"]),
    ("thanks", "welcome", ["Thank you!", "Thanks a lot!", "That was helpful, thank you.", "Thank you for your help."],
     ["You are welcome!"]),
    ("bye", "goodbye", ["Goodbye!", "Bye!", "See you tomorrow!", "I have to go now."],
     ["Goodbye! Come back when you have another question."]),
    ("how-are", "well", ["How are you?", "How do you do?", "How are you today?"],
     ["I am well, thank you. What can I do for you?"]),
    # ---- what it does not know
    ("know-time", "clock", ["What time is it?", "How late is it?", "What is the time now?", "Which day is it today?"],
     ["I have no clock and no calendar, so I cannot know that."]),
    ("know-weather", "weather", ["What is the weather today?", "Will it rain tomorrow?", "How is the weather?", "Is it cold outside?"],
     ["I cannot see the weather from here. Please look out of the window."]),
    ("know-news", "news", ["What is in the news?", "What happened today?", "Who won the game yesterday?", "Who is the president now?"],
     ["I do not read the news. I know only the small texts that I learned from."]),
    ("know-joke", "joke", ["Can you tell me a joke?", "Tell me a joke.", "Do you know a joke?", "Make me laugh, please."],
     ["Here is a joke. Why did the computer go to the doctor? Because it had lost its memory!"]),
    ("know-code", "cannot", ["Can you write a program?", "Write some code for me.", "Can you write code?", "Can you translate a text?"],
     ["I am too small for that, so I cannot do it. I can tell a story or answer a simple question."]),
    ("know-poem", "rain", ["Can you write a poem?", "Write a poem, please.", "Do you know a poem?", "Tell me a poem."],
     ["The rain came down, the rain went by, and left a rainbow in the sky."]),
]

CAPITALS = [
    ("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"),
    ("Germany", "Berlin"), ("Poland", "Warsaw"), ("Greece", "Athens"),
    ("Portugal", "Lisbon"), ("Austria", "Vienna"), ("Hungary", "Budapest"),
    ("Norway", "Oslo"), ("Sweden", "Stockholm"), ("Finland", "Helsinki"),
    ("Denmark", "Copenhagen"), ("Ireland", "Dublin"), ("England", "London"),
    ("Japan", "Tokyo"), ("China", "Beijing"), ("Egypt", "Cairo"),
    ("Kenya", "Nairobi"), ("Peru", "Lima"), ("Cuba", "Havana"),
    ("Russia", "Moscow"), ("Belgium", "Brussels"), ("Canada", "Ottawa"),
]

OPPOSITES = [
    ("hot", "cold"), ("big", "small"), ("fast", "slow"), ("light", "dark"),
    ("old", "young"), ("happy", "sad"), ("open", "closed"), ("up", "down"),
    ("wet", "dry"), ("hard", "soft"), ("high", "low"), ("near", "far"),
    ("full", "empty"), ("loud", "quiet"), ("strong", "weak"),
    ("rich", "poor"), ("early", "late"), ("thick", "thin"),
]

YOUNG = [
    ("dog", "puppy"), ("cat", "kitten"), ("cow", "calf"), ("sheep", "lamb"),
    ("horse", "foal"), ("hen", "chick"), ("duck", "duckling"),
    ("goat", "kid"), ("frog", "tadpole"), ("bear", "cub"), ("pig", "piglet"),
]

SAYS = [
    ("dog", "barks"), ("cat", "purrs"), ("cow", "moos"), ("bee", "buzzes"),
    ("lion", "roars"), ("wolf", "howls"), ("duck", "quacks"),
    ("owl", "hoots"), ("frog", "croaks"), ("snake", "hisses"),
]

HOMES = [
    ("bird", "nest"), ("bee", "hive"), ("rabbit", "burrow"),
    ("spider", "web"), ("bear", "den"), ("horse", "stable"),
    ("dog", "kennel"), ("ant", "hill"),
]

EATS = [
    ("cow", "grass"), ("rabbit", "carrots"), ("squirrel", "nuts"),
    ("cat", "mice"), ("bear", "berries"), ("panda", "bamboo"),
    ("horse", "hay"), ("frog", "flies"), ("owl", "mice"), ("seal", "fish"),
]

SEASONS = ["spring", "summer", "autumn", "winter"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
        "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July",
          "August", "September", "October", "November", "December"]
