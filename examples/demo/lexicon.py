"""The words of the demo's phrase corpus, each with every form that the grammar needs in English, French and German."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Phrase(NamedTuple):
    """An invariable piece of text in three languages."""

    en: str
    fr: str
    de: str


@dataclass(frozen=True)
class Adjective:
    """`fr`: masculine, feminine, masculine plural, feminine plural. `de`: the stem that endings are added to."""

    en: str
    fr: tuple[str, str, str, str]
    de: str
    fr_first: bool = False  # stands before the French noun
    fr_before_vowel: str = ""  # masculine singular in front of a vowel (vieil, nouvel, bel)


@dataclass(frozen=True)
class Noun:
    """A countable noun. `fr_gender` is m or f, `de_gender` m, f or n; `adjectives` are those that go well with it."""

    en: str
    en_plural: str
    fr: str
    fr_plural: str
    fr_gender: str
    de: str
    de_plural: str
    de_gender: str
    adjectives: tuple[Adjective, ...] = ()


@dataclass(frozen=True)
class Person:
    """Somebody who acts. `number` is the index into a verb's present tense forms: I, he/she, we, they."""

    en: str
    fr: str
    de: str  # nominative
    number: int = 1
    fr_feminine: bool = False
    de_dative: str = ""
    de_genitive: str = ""  # "" where the possessive is not used
    pronoun: Phrase = field(default=Phrase("", "", ""))  # "" where a pronoun would be doubtful or is not needed

    @property
    def plural(self) -> bool:
        return self.number > 1


@dataclass(frozen=True)
class Verb:
    """A verb with an object, in the forms of the past, the future and the infinitive."""

    en: str
    en_past: str
    fr: str
    fr_participle: str
    fr_future: str  # stem
    de: str
    de_participle: str
    objects: tuple[Noun, ...] = ()


@dataclass(frozen=True)
class PresentVerb:
    """Present tense forms in the order I, he/she, we, they."""

    en: tuple[str, str, str, str]
    fr: tuple[str, str, str, str]
    de: tuple[str, str, str, str]


RED = Adjective("red", ("rouge", "rouge", "rouges", "rouges"), "rot")
BLUE = Adjective("blue", ("bleu", "bleue", "bleus", "bleues"), "blau")
GREEN = Adjective("green", ("vert", "verte", "verts", "vertes"), "grün")
YELLOW = Adjective("yellow", ("jaune", "jaune", "jaunes", "jaunes"), "gelb")
WHITE = Adjective("white", ("blanc", "blanche", "blancs", "blanches"), "weiß")
BLACK = Adjective("black", ("noir", "noire", "noirs", "noires"), "schwarz")
BROWN = Adjective("brown", ("brun", "brune", "bruns", "brunes"), "braun")
BIG = Adjective("big", ("grand", "grande", "grands", "grandes"), "groß", True)
SMALL = Adjective("small", ("petit", "petite", "petits", "petites"), "klein", True)
OLD = Adjective("old", ("vieux", "vieille", "vieux", "vieilles"), "alt", True, "vieil")
NEW = Adjective("new", ("nouveau", "nouvelle", "nouveaux", "nouvelles"), "neu", True, "nouvel")
BEAUTIFUL = Adjective("beautiful", ("beau", "belle", "beaux", "belles"), "schön", True, "bel")

_COLOURS = (RED, BLUE, GREEN, YELLOW, WHITE, BLACK, BROWN)
_GOODS = (*_COLOURS, BIG, SMALL, OLD, NEW, BEAUTIFUL)
_FUR = (WHITE, BLACK, BROWN, BIG, SMALL, OLD, BEAUTIFUL)
COLOURS = frozenset(_COLOURS)

KEY = Noun("key", "keys", "clé", "clés", "f", "Schlüssel", "Schlüssel", "m", _GOODS)
BOOK = Noun("book", "books", "livre", "livres", "m", "Buch", "Bücher", "n", _GOODS)
HAT = Noun("hat", "hats", "chapeau", "chapeaux", "m", "Hut", "Hüte", "m", _GOODS)
BAG = Noun("bag", "bags", "sac", "sacs", "m", "Tasche", "Taschen", "f", _GOODS)
LAMP = Noun("lamp", "lamps", "lampe", "lampes", "f", "Lampe", "Lampen", "f", _GOODS)
UMBRELLA = Noun("umbrella", "umbrellas", "parapluie", "parapluies", "m", "Regenschirm", "Regenschirme", "m", _GOODS)
SHIRT = Noun("shirt", "shirts", "chemise", "chemises", "f", "Hemd", "Hemden", "n", _GOODS)
FLOWER = Noun(
    "flower",
    "flowers",
    "fleur",
    "fleurs",
    "f",
    "Blume",
    "Blumen",
    "f",
    (RED, BLUE, YELLOW, WHITE, BIG, SMALL, BEAUTIFUL),
)
APPLE = Noun(
    "apple", "apples", "pomme", "pommes", "f", "Apfel", "Äpfel", "m", (RED, GREEN, YELLOW, BIG, SMALL, BEAUTIFUL)
)
EGG = Noun("egg", "eggs", "œuf", "œufs", "m", "Ei", "Eier", "n", (WHITE, BROWN, BIG, SMALL))
HOUSE = Noun("house", "houses", "maison", "maisons", "f", "Haus", "Häuser", "n", _GOODS)
CAR = Noun("car", "cars", "voiture", "voitures", "f", "Auto", "Autos", "n", _GOODS)
BOAT = Noun("boat", "boats", "bateau", "bateaux", "m", "Boot", "Boote", "n", _GOODS)
CHAIR = Noun("chair", "chairs", "chaise", "chaises", "f", "Stuhl", "Stühle", "m", _GOODS)
TABLE = Noun("table", "tables", "table", "tables", "f", "Tisch", "Tische", "m", _GOODS)
CAT = Noun("cat", "cats", "chat", "chats", "m", "Katze", "Katzen", "f", _FUR)
DOG = Noun("dog", "dogs", "chien", "chiens", "m", "Hund", "Hunde", "m", _FUR)
HORSE = Noun("horse", "horses", "cheval", "chevaux", "m", "Pferd", "Pferde", "n", _FUR)
BIRD = Noun("bird", "birds", "oiseau", "oiseaux", "m", "Vogel", "Vögel", "m", (*_COLOURS, BIG, SMALL, OLD, BEAUTIFUL))
COW = Noun("cow", "cows", "vache", "vaches", "f", "Kuh", "Kühe", "f", _FUR)
DUCK = Noun("duck", "ducks", "canard", "canards", "m", "Ente", "Enten", "f", _FUR)

# Nouns that only places are made of.
BED = Noun("bed", "beds", "lit", "lits", "m", "Bett", "Betten", "n")
DOOR = Noun("door", "doors", "porte", "portes", "f", "Tür", "Türen", "f")
WINDOW = Noun("window", "windows", "fenêtre", "fenêtres", "f", "Fenster", "Fenster", "n")
TREE = Noun("tree", "trees", "arbre", "arbres", "m", "Baum", "Bäume", "m")
CHURCH = Noun("church", "churches", "église", "églises", "f", "Kirche", "Kirchen", "f")
HOTEL = Noun("hotel", "hotels", "hôtel", "hôtels", "m", "Hotel", "Hotels", "n")
SCHOOL = Noun("school", "schools", "école", "écoles", "f", "Schule", "Schulen", "f")

SMALL_THINGS = (KEY, BOOK, HAT, BAG, LAMP, UMBRELLA, SHIRT, FLOWER, APPLE, EGG)
OWN_THINGS = (KEY, BOOK, HAT, BAG, LAMP, UMBRELLA, SHIRT)
COUNTED_THINGS = (*OWN_THINGS, FLOWER, FLOWER, APPLE, APPLE, EGG, EGG)  # the last three are seldom elsewhere
LARGE_THINGS = (HOUSE, CAR, BOAT, CHAIR, TABLE)
FURNITURE = (CHAIR, TABLE)
PETS = (CAT, DOG, BIRD)
ANIMALS = (CAT, DOG, HORSE, BIRD, COW, DUCK)

BUY = Verb(
    "buy",
    "bought",
    "acheter",
    "acheté",
    "achèter",
    "kaufen",
    "gekauft",
    (*SMALL_THINGS, *LARGE_THINGS, HORSE, COW, DOG),
)
SELL = Verb(
    "sell", "sold", "vendre", "vendu", "vendr", "verkaufen", "verkauft", (*OWN_THINGS, *LARGE_THINGS, HORSE, COW)
)
FIND = Verb("find", "found", "trouver", "trouvé", "trouver", "finden", "gefunden", (*OWN_THINGS, FLOWER, *PETS))
SEE = Verb("see", "saw", "voir", "vu", "verr", "sehen", "gesehen", (HOUSE, CAR, BOAT, *ANIMALS))
DRAW = Verb(
    "draw",
    "drew",
    "dessiner",
    "dessiné",
    "dessiner",
    "zeichnen",
    "gezeichnet",
    (HOUSE, BOAT, FLOWER, APPLE, *ANIMALS),
)
CLEAN = Verb(
    "clean",
    "cleaned",
    "nettoyer",
    "nettoyé",
    "nettoier",
    "putzen",
    "geputzt",
    (HOUSE, CAR, BOAT, TABLE, CHAIR, LAMP),
)
LOSE = Verb("lose", "lost", "perdre", "perdu", "perdr", "verlieren", "verloren", (*OWN_THINGS, *PETS))
EVENT_VERBS = (BUY, SELL, FIND, SEE, DRAW, CLEAN)

GIVE = Verb("give", "gave", "donner", "donné", "donner", "geben", "gegeben", (*OWN_THINGS, FLOWER, APPLE, EGG))
SHOW = Verb("show", "showed", "montrer", "montré", "montrer", "zeigen", "gezeigt", (*OWN_THINGS, *LARGE_THINGS))
SEND = Verb("send", "sent", "envoyer", "envoyé", "enverr", "schicken", "geschickt", (*OWN_THINGS, FLOWER))
GIVING_VERBS = (GIVE, SHOW, SEND)

_HE = Phrase("he", "il", "er")
_SHE = Phrase("she", "elle", "sie")
_THEY = Phrase("they", "ils", "sie")
I = Person("I", "je", "ich", 0)  # noqa: E741
WE = Person("we", "nous", "wir", 2)
HE = Person("he", "il", "er", pronoun=_HE)
SHE = Person("she", "elle", "sie", fr_feminine=True, pronoun=_SHE)
MOTHER = Person("my mother", "ma mère", "meine Mutter", 1, True, "meiner Mutter", "meiner Mutter", _SHE)
FATHER = Person("my father", "mon père", "mein Vater", 1, False, "meinem Vater", "meines Vaters", _HE)
SISTER = Person("my sister", "ma sœur", "meine Schwester", 1, True, "meiner Schwester", "meiner Schwester", _SHE)
BROTHER = Person("my brother", "mon frère", "mein Bruder", 1, False, "meinem Bruder", "meines Bruders", _HE)
UNCLE = Person("my uncle", "mon oncle", "mein Onkel", 1, False, "meinem Onkel", "meines Onkels", _HE)
AUNT = Person("my aunt", "ma tante", "meine Tante", 1, True, "meiner Tante", "meiner Tante", _SHE)
BOY = Person("the boy", "le garçon", "der Junge", 1, False, "dem Jungen", "des Jungen", _HE)
# No pronoun for the girl: German speakers differ between "es" and "sie".
GIRL = Person("the girl", "la fille", "das Mädchen", 1, True, "dem Mädchen", "des Mädchens")
KING = Person("the king", "le roi", "der König", 1, False, "dem König", "des Königs", _HE)
QUEEN = Person("the queen", "la reine", "die Königin", 1, True, "der Königin", "der Königin", _SHE)
ANNA = Person("Anna", "Anna", "Anna", 1, True, "Anna", "", _SHE)
PAUL = Person("Paul", "Paul", "Paul", 1, False, "Paul", "", _HE)
CHILDREN = Person("the children", "les enfants", "die Kinder", 3, False, "den Kindern", "", _THEY)
PARENTS = Person("my parents", "mes parents", "meine Eltern", 3, False, "meinen Eltern", "", _THEY)

NAMED = (
    MOTHER,
    FATHER,
    SISTER,
    BROTHER,
    UNCLE,
    AUNT,
    BOY,
    GIRL,
    KING,
    QUEEN,
    ANNA,
    PAUL,
    CHILDREN,
    PARENTS,
)
THIRD = (*NAMED, HE, SHE)  # everybody whose French gender is certain
SUBJECTS = (*THIRD, I, WE)
OWNERS = tuple(person for person in NAMED if person.de_genitive)
REFERABLE = tuple(person for person in NAMED if person.pronoun.en)

# Where somebody goes (en, fr, de), and where something happens.
GOALS = (
    Phrase("to the station", "à la gare", "zum Bahnhof"),
    Phrase("to the market", "au marché", "zum Markt"),
    Phrase("to the church", "à l'église", "zur Kirche"),
    Phrase("to the museum", "au musée", "zum Museum"),
    Phrase("to the beach", "à la plage", "zum Strand"),
    Phrase("to the hospital", "à l'hôpital", "zum Krankenhaus"),
    Phrase("to the hotel", "à l'hôtel", "zum Hotel"),
    Phrase("to the library", "à la bibliothèque", "zur Bibliothek"),
    Phrase("to the school", "à l'école", "zur Schule"),
    Phrase("to the park", "au parc", "zum Park"),
)
SCENES = (
    Phrase("at the station", "à la gare", "am Bahnhof"),
    Phrase("at the market", "au marché", "auf dem Markt"),
    Phrase("on the beach", "sur la plage", "am Strand"),
    Phrase("in the park", "dans le parc", "im Park"),
    Phrase("in the garden", "dans le jardin", "im Garten"),
    Phrase("in the forest", "dans la forêt", "im Wald"),
)
ROOMS = (
    Phrase("in the kitchen", "dans la cuisine", "in der Küche"),
    Phrase("in the garden", "dans le jardin", "im Garten"),
    Phrase("in the park", "dans le parc", "im Park"),
    Phrase("at the station", "à la gare", "am Bahnhof"),
    Phrase("at the hotel", "à l'hôtel", "im Hotel"),
)
KITCHEN = ROOMS[0]
MARKET = SCENES[1]

# Prepositions of place: English, French (à côté de contracts with the article), German (with the dative).
UNDER = Phrase("under", "sous", "unter")
ON = Phrase("on", "sur", "auf")
BEHIND = Phrase("behind", "derrière", "hinter")
IN_FRONT = Phrase("in front of", "devant", "vor")
NEXT_TO = Phrase("next to", "à côté de", "neben")
SPOTS_INSIDE = (
    (ON, TABLE),
    (UNDER, TABLE),
    (ON, CHAIR),
    (UNDER, CHAIR),
    (ON, BED),
    (UNDER, BED),
    (NEXT_TO, BED),
    (BEHIND, DOOR),
    (NEXT_TO, WINDOW),
)
SPOTS_OUTSIDE = (
    (BEHIND, HOUSE),
    (IN_FRONT, HOUSE),
    (NEXT_TO, HOUSE),
    (UNDER, TREE),
    (BEHIND, TREE),
    (NEXT_TO, TREE),
    (BEHIND, CHURCH),
    (IN_FRONT, CHURCH),
    (NEXT_TO, CHURCH),
    (BEHIND, HOTEL),
    (IN_FRONT, HOTEL),
    (NEXT_TO, HOTEL),
    (BEHIND, SCHOOL),
    (IN_FRONT, SCHOOL),
    (NEXT_TO, SCHOOL),
)

WEEKDAYS = (
    Phrase("on Monday", "lundi", "am Montag"),
    Phrase("on Tuesday", "mardi", "am Dienstag"),
    Phrase("on Wednesday", "mercredi", "am Mittwoch"),
    Phrase("on Thursday", "jeudi", "am Donnerstag"),
    Phrase("on Friday", "vendredi", "am Freitag"),
    Phrase("on Saturday", "samedi", "am Samstag"),
    Phrase("on Sunday", "dimanche", "am Sonntag"),
)
PAST_TIMES = (
    Phrase("yesterday", "hier", "gestern"),
    Phrase("yesterday evening", "hier soir", "gestern Abend"),
    Phrase("this morning", "ce matin", "heute Morgen"),
    Phrase("last week", "la semaine dernière", "letzte Woche"),
    Phrase("last year", "l'année dernière", "letztes Jahr"),
    *WEEKDAYS,
)
FUTURE_TIMES = (
    Phrase("tomorrow", "demain", "morgen"),
    Phrase("tomorrow evening", "demain soir", "morgen Abend"),
    Phrase("this evening", "ce soir", "heute Abend"),
    Phrase("next week", "la semaine prochaine", "nächste Woche"),
    *WEEKDAYS,
)
HABIT_TIMES = (
    Phrase("every day", "chaque jour", "jeden Tag"),
    Phrase("every morning", "chaque matin", "jeden Morgen"),
    Phrase("every evening", "chaque soir", "jeden Abend"),
    Phrase("every Sunday", "chaque dimanche", "jeden Sonntag"),
)
DAY_PARTS = (
    Phrase("in the morning", "le matin", "morgens"),
    Phrase("in the evening", "le soir", "abends"),
)

CITIES = (
    Phrase("Paris", "Paris", "Paris"),
    Phrase("Berlin", "Berlin", "Berlin"),
    Phrase("London", "Londres", "London"),
    Phrase("Rome", "Rome", "Rom"),
    Phrase("Vienna", "Vienne", "Wien"),
)
NUMBERS = (
    Phrase("two", "deux", "zwei"),
    Phrase("three", "trois", "drei"),
    Phrase("four", "quatre", "vier"),
    Phrase("five", "cinq", "fünf"),
    Phrase("six", "six", "sechs"),
    Phrase("seven", "sept", "sieben"),
    Phrase("eight", "huit", "acht"),
    Phrase("nine", "neuf", "neun"),
    Phrase("ten", "dix", "zehn"),
)
# Vehicles: English, French with the article, German with the article; then the German verb of leaving.
VEHICLES = (
    (Phrase("the train", "le train", "der Zug"), "fährt"),
    (Phrase("the bus", "le bus", "der Bus"), "fährt"),
    (Phrase("the plane", "l'avion", "das Flugzeug"), "fliegt"),
)
# Mass nouns, the French one with its partitive article.
DRINKS = (
    Phrase("coffee", "du café", "Kaffee"),
    Phrase("tea", "du thé", "Tee"),
    Phrase("milk", "du lait", "Milch"),
    Phrase("water", "de l'eau", "Wasser"),
)
FOODS = (
    Phrase("bread", "du pain", "Brot"),
    Phrase("cheese", "du fromage", "Käse"),
    Phrase("soup", "de la soupe", "Suppe"),
    Phrase("fish", "du poisson", "Fisch"),
)

HAVE = PresentVerb(("have", "has", "have", "have"), ("ai", "a", "avons", "ont"), ("habe", "hat", "haben", "haben"))
BE = PresentVerb(("am", "is", "are", "are"), ("suis", "est", "sommes", "sont"), ("bin", "ist", "sind", "sind"))
GO = PresentVerb(BE.en, ("vais", "va", "allons", "vont"), ("gehe", "geht", "gehen", "gehen"))
WANT = PresentVerb(
    ("want to", "wants to", "want to", "want to"),
    ("veux", "veut", "voulons", "veulent"),
    ("will", "will", "wollen", "wollen"),
)
MUST = PresentVerb(("must",) * 4, ("dois", "doit", "devons", "doivent"), ("muss", "muss", "müssen", "müssen"))
CAN = PresentVerb(("can",) * 4, ("peux", "peut", "pouvons", "peuvent"), ("kann", "kann", "können", "können"))
MODALS = (WANT, MUST, CAN)
DRINK = PresentVerb(
    ("drink", "drinks", "drink", "drink"),
    ("bois", "boit", "buvons", "boivent"),
    ("trinke", "trinkt", "trinken", "trinken"),
)
EAT = PresentVerb(
    ("eat", "eats", "eat", "eat"), ("mange", "mange", "mangeons", "mangent"), ("esse", "isst", "essen", "essen")
)
BUY_NOW = PresentVerb(
    ("buy", "buys", "buy", "buy"),
    ("achète", "achète", "achetons", "achètent"),
    ("kaufe", "kauft", "kaufen", "kaufen"),
)
FR_FUTURE_ENDINGS = ("ai", "a", "ons", "ont")
DE_FUTURE = ("werde", "wird", "werden", "werden")

# What an animal is doing: English after is/are, French and German in the third person singular.
DOINGS = (
    Phrase("sleeping", "dort", "schläft"),
    Phrase("waiting", "attend", "wartet"),
    Phrase("playing", "joue", "spielt"),
    Phrase("eating", "mange", "frisst"),
)

# Comparatives: English, French masculine and feminine, German.
COMPARATIVES = (
    ("bigger", ("plus grand", "plus grande"), "größer"),
    ("smaller", ("plus petit", "plus petite"), "kleiner"),
    ("older", ("plus vieux", "plus vieille"), "älter"),
    ("more beautiful", ("plus beau", "plus belle"), "schöner"),
)


class Feeling(NamedTuple):
    """`fr`: masculine, feminine, plural; `verbs`: what brings the feeling about."""

    en: str
    fr: tuple[str, str, str]
    de: str
    verbs: tuple[Verb, ...]


FEELINGS = (
    Feeling("happy", ("heureux", "heureuse", "heureux"), "glücklich", (FIND, BUY)),
    Feeling("sad", ("triste", "triste", "tristes"), "traurig", (LOSE, SELL)),
    Feeling("angry", ("en colère", "en colère", "en colère"), "wütend", (LOSE, SELL)),
)


class Weather(NamedTuple):
    """Future and past of one kind of weather; German in two parts: what follows the verb's place, and the verb."""

    en_future: str
    en_past: str
    fr_future: str
    fr_past: str
    de_infinitive: str  # after "wird"
    de_past: tuple[str, str]  # finite verb, end of the sentence


WEATHERS = (
    Weather("rain", "rained", "il pleuvra", "il a plu", "regnen", ("hat", "geregnet")),
    Weather("snow", "snowed", "il neigera", "il a neigé", "schneien", ("hat", "geschneit")),
    Weather("be cold", "was cold", "il fera froid", "il a fait froid", "kalt sein", ("war", "kalt")),
    Weather("be warm", "was warm", "il fera chaud", "il a fait chaud", "warm sein", ("war", "warm")),
    Weather("be windy", "was windy", "il y aura du vent", "il y a eu du vent", "windig sein", ("war", "windig")),
)
