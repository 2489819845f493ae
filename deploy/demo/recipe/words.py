"""Names and things for the stories. Every list is ours."""

GIRLS = """Ada Alba Alma Amber Amy Anna Anya Aria Asha Astrid Aya Bea Bella
Bertha Betty Bianca Carla Carmen Celia Chloe Clara Cora Daisy Dalia Daphne
Delia Dina Dora Edith Ella Elsa Emma Esme Eva Fanny Fatima Fay Flora Freya
Frida Gia Gina Gloria Grace Greta Hana Hanna Hattie Hazel Heidi Helen Ida
Ines Ingrid Iris Isla Ivy Jana Jane Jenny Jill Joan Johanna Josie Joy Judy
Julia June Kara Kate Kaya Kira Lara Laura Lea Leila Lena Lila Lily Lina Lisa
Lola Lotta Lucy Luna Lydia Mabel Maja Mara Maria Martha Maya Meg Mia Mila
Mina Mira Molly Mona Nadia Nell Nina Noor Nora Olga Olive Pam Paula Pearl
Penny Petra Polly Rita Rosa Rose Ruby Ruth Sally Sara Selma Signe Sofia Sonja
Stella Susan Tara Tess Thea Tilda Tina Uma Vera Viola Wanda Willa Yara Yuki
Zara Zoe""".split()

BOYS = """Aaron Abel Adam Adil Albert Alex Amir Anton Ari Arthur Axel Basil
Ben Bernard Bill Bob Boris Bruno Carl Casper Charlie Chris Colin Conrad
Cosmo Dan David Denis Derek Diego Dylan Eddie Edgar Eli Elias Emil Eric Erik
Ernest Ethan Felix Finn Frank Fred Gabriel George Gilbert Gus Hans Harold
Harry Hasan Henry Hugo Ian Igor Isaac Ivan Jack Jacob Jamal James Jan Jasper
Jim Joel John Jonas Josef Julian Karim Karl Ken Kofi Lars Leo Leon Levi Liam
Linus Louis Luca Lukas Malik Marco Mark Martin Mateo Max Milo Mohan Nate Ned
Niko Nils Noah Olaf Oliver Omar Oscar Otto Owen Pablo Patrick Paul Pedro
Peter Philip Piet Quinn Rafi Ralph Ravi Ray Remy Robin Roman Ronan Rudi Sam
Samir Sasha Simon Stefan Sven Tariq Ted Theo Thomas Tim Toby Tom Tomas Tony
Ulf Viktor Vincent Walter Wilbur Will Yusuf Zack""".split()

ANIMAL_NAMES = """Acorn Amberly Bamboo Bean Berry Biscuit Bluebell Bramble
Bubbles Button Caramel Cherry Chip Cinnamon Clover Cloud Cocoa Cookie Copper
Cricket Dot Dusty Fern Flash Fluff Ginger Hazelnut Honey Jumper Juniper
Marble Misty Moss Muffin Nibbles Nutmeg Oats Paws Pebble Pepper Pip Plum
Pumpkin Puddle Quill Ripple Rusty Sage Shadow Snowflake Sparrow Speckle Spot
Sprout Squeak Star Tansy Thistle Tiny Toffee Tumble Twig Velvet Whisker Willow
Wink Zippy""".split()

# (kind, looks, home)
ANIMALS = [
    ("fox", "red", "in a den under an oak"), ("rabbit", "gray", "in a burrow by the meadow"),
    ("mouse", "brown", "in a hole behind the barn"), ("squirrel", "red", "in a hollow tree"),
    ("hedgehog", "round", "in a nest of leaves"), ("beaver", "busy", "in a lodge in the river"),
    ("otter", "quick", "in a cave by the stream"), ("duck", "white", "in the reeds by the pond"),
    ("bear", "brown", "in a cave on the hill"), ("badger", "striped", "in a den in the wood"),
    ("frog", "green", "in a pond full of lilies"), ("goat", "white", "in a stable on the hill"),
    ("pony", "brown", "in a stable near the mill"), ("cat", "black", "in a basket in the bakery"),
    ("puppy", "spotted", "in a kennel behind the farm"), ("kitten", "gray", "in a box in the kitchen"),
    ("lamb", "white", "in a fold on the green hill"), ("turtle", "slow", "on the bank of a quiet lake"),
    ("owl", "young", "in an old church tower"), ("mole", "gray", "in a tunnel under the garden"),
    ("raccoon", "clever", "in a hollow log"), ("donkey", "gray", "in a shed near the market"),
    ("penguin", "small", "in a bay of ice and snow"), ("elephant", "young", "in a forest near the great river"),
    ("monkey", "cheerful", "in a tall fig tree"), ("deer", "shy", "at the edge of the forest"),
]

PLACES = """in a small village|in a little town by the sea|in a house on a hill
on a farm near the river|in a red house at the end of the road
in a white cottage in the valley|in a mill beside a stream
in a small town with a tall church|in a village between two hills
in a house near the harbor|in a cottage at the edge of the wood
on a busy street near the market|on a farm with a yellow barn
in a village at the foot of a mountain|in a blue house by the lake
on a quiet street behind the school|in a little house with a green roof
in an old house with a large garden|in a village on an island
in a flat above the bakery|on a boat on the river|in a cabin among the pines
in a stone house by the bridge|on a farm in the wide green plain
in a house beside the railway""".replace("\n", "|").split("|")

TRAITS = """kind curious brave cheerful careful clever friendly gentle patient
playful quiet shy lively helpful honest thoughtful stubborn dreamy""".split()

LIKES = """to climb trees|to count the stars|to draw pictures|to sing old songs|to read books
to run down the hill|to collect smooth stones|to look at the clouds|to listen to stories
to dance in the rain|to watch the birds|to build small bridges|to ask questions|to pick flowers
to play hide and seek|to jump over puddles|to whistle|to tell jokes|to look for shells
to watch the boats|to make paper ships|to explore the fields|to walk along the stream
to help in the kitchen|to fix broken things|to solve riddles""".replace("\n", "|").split("|")

# (how a day is said, one sentence about it)
WEATHER = [
    ("sunny", "The sun shone, and the air was warm."),
    ("windy", "The wind shook the trees and chased the leaves."),
    ("rainy", "Rain ran down the windows and made puddles on the road."),
    ("foggy", "Fog lay over the fields, and everything looked gray."),
    ("cold", "There was frost on the grass, and every breath made a little cloud."),
    ("bright", "The sky was blue, and birds sang in the trees."),
    ("cloudy", "Gray clouds moved slowly over the roofs."),
    ("quiet", "Not a leaf moved, and the world seemed to wait."),
    ("warm", "Bees hummed in the flowers, and butterflies danced in the air."),
    ("fresh", "It had rained in the night, and everything smelled of wet grass."),
]

TOYS = """red ball|wooden horse|blue kite|toy boat|tin drum|rag doll|teddy bear|spinning top
yellow scarf|green cap|silver whistle|little lantern|music box|glass marble|paper crown
toy train|small flute|woolen glove|picture book|paint box|leather bag|striped umbrella
golden button|wooden sword|straw hat|pocket knife|blue cup|magnifying glass|skipping rope
model plane""".replace("\n", "|").split("|")

HIDING = """under the old bench|behind the stove|in the tall grass|under a pile of leaves
between two stones|in the hollow tree|beside the well|under the bridge|behind the barn
in the hay|below the stairs|near the beehives|at the foot of the apple tree|in an empty flower pot
behind the garden gate|on the lowest branch of the willow
in the wheelbarrow|next to the duck pond|under the blanket in the attic""".replace("\n", "|").split("|")

FOODS = """apple cake|honey bread|plum pie|carrot soup|cherry tart|nut cookies|berry jam
pumpkin soup|pear cake|cheese rolls|potato soup|cinnamon buns|lemon cake|oat cookies
chocolate cake|onion pie|rice pudding|pancakes""".replace("\n", "|").split("|")

INGREDIENTS = """flour|honey|butter|milk|sugar|salt|cinnamon|cream|yeast|oil""".split("|")

PLANTS = """sunflower|pumpkin|bean|rose|apple tree|tulip|strawberry plant|pea|cherry tree
tomato plant|melon|lily|daisy|pear tree|poppy|carrot""".replace("\n", "|").split("|")

BIRDS = "robin|sparrow|swallow|blackbird|finch|thrush|wren|starling|lark|nightingale".split("|")

SKILLS = [  # (to do, doing, what goes wrong at first)
    ("swim", "swimming", "swallowed a lot of water"),
    ("ride a bicycle", "riding", "fell into the hedge"),
    ("whistle", "whistling", "blew only air"),
    ("play the flute", "playing", "made a sound like a goose"),
    ("skate", "skating", "sat down hard on the ice"),
    ("juggle", "juggling", "dropped every ball"),
    ("dance", "dancing", "stepped on everybody's feet"),
    ("climb the tall oak", "climbing", "slid down again at once"),
    ("bake bread", "baking", "burned the loaf black"),
    ("row a boat", "rowing", "turned round and round in a circle"),
    ("knit", "knitting", "made a knot as big as a fist"),
    ("paint", "painting", "spilled the water over the paper"),
    ("walk on stilts", "walking", "fell on the grass after two steps"),
    ("play the violin", "playing", "made the dog howl"),
    ("jump over the brook", "jumping", "landed in the cold water"),
    ("read", "reading", "mixed up all the letters"),
    ("play chess", "playing", "lost the queen in the first minute"),
    ("tie a sailor's knot", "tying", "tangled the whole rope"),
]

ELDERS = [  # (name in the story, he or she)
    ("the old baker", "he"), ("the miller", "he"), ("the fisherman", "he"),
    ("the gardener", "she"), ("the teacher", "she"), ("the shoemaker", "he"),
    ("the blacksmith", "he"), ("the doctor", "she"), ("the shepherd", "he"),
    ("the librarian", "she"), ("the carpenter", "she"), ("the postman", "he"),
    ("the clockmaker", "he"), ("the old sailor", "he"), ("the weaver", "she"),
    ("the beekeeper", "she"), ("the farmer", "he"), ("the potter", "she"),
    ("Grandmother", "she"), ("Grandfather", "he"), ("Aunt Clara", "she"),
    ("Uncle Otto", "he"),
]
WISE_ANIMALS = [
    ("the old owl", "she"), ("the wise turtle", "he"), ("the gray heron", "he"),
    ("the old badger", "he"), ("the mother bear", "she"), ("the old raven", "she"),
    ("the great stag", "he"), ("the old toad", "he"),
]

TREASURES = """a bag of seeds and a letter|an old book of stories|a box of colored glass
a silver bell|a map of the stars|a music box that still played|a bundle of old letters
a small golden key|a blanket sewn from a hundred pieces|a telescope made of brass
a jar full of buttons|a tiny ship in a bottle""".replace("\n", "|").split("|")

HERBS = "mint|sage|thyme|chamomile|ginger root|lime blossom|fennel".split("|")

GIFTS = """a bunch of flowers|a warm blanket|a jar of honey|a painted stone|a basket of berries
a little wooden bird|a new song|a funny drawing|a bowl of hot soup|a string of shells
a paper star|a pot of tea""".replace("\n", "|").split("|")

MORALS = {
    "help": ["Since that day {H} knew that help given comes back in the end.",
             "{H} had learned that a small kindness can grow very large.",
             "And whenever somebody needed help, {H} was there."],
    "try": ["{H} had learned that every master was once a beginner.",
            "Since then {H} never gave up after the first try.",
            "\"I only had to keep trying,\" thought {H}."],
    "friend": ["Since that day {H} and {F} were the best of friends.",
               "{H} and {F} laughed about it for many years.",
               "From then on {H} and {F} shared everything."],
    "true": ["{H} had learned that the truth makes the heart light.",
             "Since that day {H} always told the truth, even when it was hard.",
             "\"It is better to say it at once,\" thought {H}."],
    "patience": ["{H} had learned that good things need time.",
                 "Since then {H} has known how to wait.",
                 "\"Slowly is also a way to get there,\" said {H}, and smiled."],
    "brave": ["{H} had learned that being brave means to go on although one is afraid.",
              "Since that day {H} was a little less afraid of the world.",
              "And {H} fell asleep that night feeling brave and proud."],
    "home": ["{H} was glad to be home, and slept deeply that night.",
             "It was good to be home again, and {H} smiled in {his} sleep.",
             "That night {H} dreamed of it all once more."],
}
