"""The words of the demo's phrase corpus, each with every form that the grammar needs in its five languages.

Spanish is that of Mexico (coche, enojado, the simple past for this morning too); Japanese is plain and polite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Phrase(NamedTuple):
    """An invariable piece of text in five languages."""

    en: str
    fr: str
    de: str
    es: str
    ja: str


@dataclass(frozen=True)
class Adjective:
    """`fr`, `es`: masculine, feminine, masculine plural, feminine plural. `de`: the stem that endings are added to.

    `ja`: as it stands before a noun.
    """

    en: str
    fr: tuple[str, str, str, str]
    de: str
    es: tuple[str, str, str, str]
    ja: str
    fr_first: bool = False  # stands before the French noun
    fr_before_vowel: str = ""  # masculine singular in front of a vowel (vieil, nouvel, bel)
    ja_of_the_living: str = ""  # where animals have another word


@dataclass(frozen=True)
class Noun:
    """A countable noun. `fr_gender` and `es_gender` are m or f, `de_gender` m, f or n.

    `adjectives` are those that go well with it; `ja_counter` follows a number of them ("": never counted here).
    """

    en: str
    en_plural: str
    fr: str
    fr_plural: str
    fr_gender: str
    de: str
    de_plural: str
    de_gender: str
    es: str
    es_plural: str
    es_gender: str
    ja: str
    ja_counter: str
    adjectives: tuple[Adjective, ...] = ()

    @property
    def living(self) -> bool:
        """Japanese has other verbs and counters for what lives."""
        return self.ja_counter in ("匹", "頭", "羽")


@dataclass(frozen=True)
class Person:
    """Somebody who acts. `number` is the index into a verb's present tense forms: I, he/she, we, they."""

    en: str
    fr: str
    de: str  # nominative
    es: str  # "" where the verb's ending says it
    ja: str
    number: int = 1
    feminine: bool = False  # in French and Spanish
    de_dative: str = ""
    de_genitive: str = ""  # "" where the possessive is not used
    pronoun: Phrase = field(default=Phrase("", "", "", "", ""))  # "" where it would be doubtful or is not needed

    @property
    def plural(self) -> bool:
        return self.number > 1


class JapaneseVerb(NamedTuple):
    """What endings are added to: 買い-ます, 買う, 買った, 買わ-ない."""

    stem: str
    plain: str
    plain_past: str
    negative: str


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
    es: str  # the stem of the future too
    es_past: tuple[str, str, str, str]  # I, he/she, we, they
    ja: JapaneseVerb
    objects: tuple[Noun, ...] = ()
    ja_of_the_living: JapaneseVerb | None = None  # where the object is an animal and the verb another one


@dataclass(frozen=True)
class PresentVerb:
    """Present tense forms in the order I, he/she, we, they; `ja`: what ます and ません follow."""

    en: tuple[str, str, str, str]
    fr: tuple[str, str, str, str]
    de: tuple[str, str, str, str]
    es: tuple[str, str, str, str]
    ja: str = ""


# fmt: off
RED = Adjective("red", ("rouge", "rouge", "rouges", "rouges"), "rot", ("rojo", "roja", "rojos", "rojas"), "赤い")
BLUE = Adjective("blue", ("bleu", "bleue", "bleus", "bleues"), "blau", ("azul", "azul", "azules", "azules"), "青い")
GREEN = Adjective("green", ("vert", "verte", "verts", "vertes"), "grün", ("verde", "verde", "verdes", "verdes"), "緑の")
YELLOW = Adjective(
    "yellow", ("jaune", "jaune", "jaunes", "jaunes"), "gelb",
    ("amarillo", "amarilla", "amarillos", "amarillas"), "黄色い",
)
WHITE = Adjective(
    "white", ("blanc", "blanche", "blancs", "blanches"), "weiß",
    ("blanco", "blanca", "blancos", "blancas"), "白い",
)
BLACK = Adjective(
    "black", ("noir", "noire", "noirs", "noires"), "schwarz",
    ("negro", "negra", "negros", "negras"), "黒い",
)
BROWN = Adjective(
    "brown", ("brun", "brune", "bruns", "brunes"), "braun",
    ("marrón", "marrón", "marrones", "marrones"), "茶色い",
)
BIG = Adjective(
    "big", ("grand", "grande", "grands", "grandes"), "groß",
    ("grande", "grande", "grandes", "grandes"), "大きい", True,
)
SMALL = Adjective(
    "small", ("petit", "petite", "petits", "petites"), "klein",
    ("pequeño", "pequeña", "pequeños", "pequeñas"), "小さい", True,
)
OLD = Adjective(
    "old", ("vieux", "vieille", "vieux", "vieilles"), "alt",
    ("viejo", "vieja", "viejos", "viejas"), "古い", True, "vieil", ja_of_the_living="年老いた",
)
NEW = Adjective(
    "new", ("nouveau", "nouvelle", "nouveaux", "nouvelles"), "neu",
    ("nuevo", "nueva", "nuevos", "nuevas"), "新しい", True, "nouvel",
)
BEAUTIFUL = Adjective(
    "beautiful", ("beau", "belle", "beaux", "belles"), "schön",
    ("bonito", "bonita", "bonitos", "bonitas"), "美しい", True, "bel",
)

_COLOURS = (RED, BLUE, GREEN, YELLOW, WHITE, BLACK, BROWN)
_GOODS = (*_COLOURS, BIG, SMALL, OLD, NEW, BEAUTIFUL)
_FUR = (WHITE, BLACK, BROWN, BIG, SMALL, OLD, BEAUTIFUL)
COLOURS = frozenset(_COLOURS)

KEY = Noun("key", "keys", "clé", "clés", "f", "Schlüssel", "Schlüssel", "m", "llave", "llaves", "f", "鍵", "本", _GOODS)
BOOK = Noun("book", "books", "livre", "livres", "m", "Buch", "Bücher", "n", "libro", "libros", "m", "本", "冊", _GOODS)
HAT = Noun(
    "hat", "hats", "chapeau", "chapeaux", "m", "Hut", "Hüte", "m",
    "sombrero", "sombreros", "m", "帽子", "個", _GOODS,
)
BAG = Noun("bag", "bags", "sac", "sacs", "m", "Tasche", "Taschen", "f", "bolsa", "bolsas", "f", "かばん", "個", _GOODS)
LAMP = Noun(
    "lamp", "lamps", "lampe", "lampes", "f", "Lampe", "Lampen", "f",
    "lámpara", "lámparas", "f", "ランプ", "個", _GOODS,
)
UMBRELLA = Noun(
    "umbrella", "umbrellas", "parapluie", "parapluies", "m", "Regenschirm", "Regenschirme", "m",
    "paraguas", "paraguas", "m", "傘", "本", _GOODS,
)
SHIRT = Noun(
    "shirt", "shirts", "chemise", "chemises", "f", "Hemd", "Hemden", "n",
    "camisa", "camisas", "f", "シャツ", "枚", _GOODS,
)
FLOWER = Noun(
    "flower", "flowers", "fleur", "fleurs", "f", "Blume", "Blumen", "f",
    "flor", "flores", "f", "花", "本", (RED, BLUE, YELLOW, WHITE, BIG, SMALL, BEAUTIFUL),
)
APPLE = Noun(
    "apple", "apples", "pomme", "pommes", "f", "Apfel", "Äpfel", "m",
    "manzana", "manzanas", "f", "りんご", "個", (RED, GREEN, YELLOW, BIG, SMALL, BEAUTIFUL),
)
EGG = Noun(
    "egg", "eggs", "œuf", "œufs", "m", "Ei", "Eier", "n",
    "huevo", "huevos", "m", "卵", "個", (WHITE, BROWN, BIG, SMALL),
)
HOUSE = Noun("house", "houses", "maison", "maisons", "f", "Haus", "Häuser", "n", "casa", "casas", "f", "家", "", _GOODS)
CAR = Noun("car", "cars", "voiture", "voitures", "f", "Auto", "Autos", "n", "coche", "coches", "m", "車", "", _GOODS)
BOAT = Noun("boat", "boats", "bateau", "bateaux", "m", "Boot", "Boote", "n", "barco", "barcos", "m", "船", "", _GOODS)
CHAIR = Noun(
    "chair", "chairs", "chaise", "chaises", "f", "Stuhl", "Stühle", "m",
    "silla", "sillas", "f", "椅子", "", _GOODS,
)
TABLE = Noun(
    "table", "tables", "table", "tables", "f", "Tisch", "Tische", "m",
    "mesa", "mesas", "f", "テーブル", "", _GOODS,
)
CAT = Noun("cat", "cats", "chat", "chats", "m", "Katze", "Katzen", "f", "gato", "gatos", "m", "猫", "匹", _FUR)
DOG = Noun("dog", "dogs", "chien", "chiens", "m", "Hund", "Hunde", "m", "perro", "perros", "m", "犬", "匹", _FUR)
HORSE = Noun(
    "horse", "horses", "cheval", "chevaux", "m", "Pferd", "Pferde", "n",
    "caballo", "caballos", "m", "馬", "頭", _FUR,
)
BIRD = Noun(
    "bird", "birds", "oiseau", "oiseaux", "m", "Vogel", "Vögel", "m",
    "pájaro", "pájaros", "m", "鳥", "羽", (*_COLOURS, BIG, SMALL, OLD, BEAUTIFUL),
)
COW = Noun("cow", "cows", "vache", "vaches", "f", "Kuh", "Kühe", "f", "vaca", "vacas", "f", "牛", "頭", _FUR)
DUCK = Noun("duck", "ducks", "canard", "canards", "m", "Ente", "Enten", "f", "pato", "patos", "m", "アヒル", "羽", _FUR)

# Nouns that only places are made of.
BED = Noun("bed", "beds", "lit", "lits", "m", "Bett", "Betten", "n", "cama", "camas", "f", "ベッド", "")
DOOR = Noun("door", "doors", "porte", "portes", "f", "Tür", "Türen", "f", "puerta", "puertas", "f", "ドア", "")
WINDOW = Noun(
    "window", "windows", "fenêtre", "fenêtres", "f", "Fenster", "Fenster", "n",
    "ventana", "ventanas", "f", "窓", "",
)
TREE = Noun("tree", "trees", "arbre", "arbres", "m", "Baum", "Bäume", "m", "árbol", "árboles", "m", "木", "")
CHURCH = Noun(
    "church", "churches", "église", "églises", "f", "Kirche", "Kirchen", "f",
    "iglesia", "iglesias", "f", "教会", "",
)
HOTEL = Noun("hotel", "hotels", "hôtel", "hôtels", "m", "Hotel", "Hotels", "n", "hotel", "hoteles", "m", "ホテル", "")
SCHOOL = Noun(
    "school", "schools", "école", "écoles", "f", "Schule", "Schulen", "f",
    "escuela", "escuelas", "f", "学校", "",
)

SMALL_THINGS = (KEY, BOOK, HAT, BAG, LAMP, UMBRELLA, SHIRT, FLOWER, APPLE, EGG)
OWN_THINGS = (KEY, BOOK, HAT, BAG, LAMP, UMBRELLA, SHIRT)
COUNTED_THINGS = (*OWN_THINGS, FLOWER, FLOWER, APPLE, APPLE, EGG, EGG)  # the last three are seldom elsewhere
LARGE_THINGS = (HOUSE, CAR, BOAT, CHAIR, TABLE)
FURNITURE = (CHAIR, TABLE)
PETS = (CAT, DOG, BIRD)
ANIMALS = (CAT, DOG, HORSE, BIRD, COW, DUCK)

BUY = Verb(
    "buy", "bought", "acheter", "acheté", "achèter", "kaufen", "gekauft",
    "comprar", ("compré", "compró", "compramos", "compraron"), JapaneseVerb("買い", "買う", "買った", "買わ"),
    (*SMALL_THINGS, *LARGE_THINGS, HORSE, COW, DOG),
)
SELL = Verb(
    "sell", "sold", "vendre", "vendu", "vendr", "verkaufen", "verkauft",
    "vender", ("vendí", "vendió", "vendimos", "vendieron"), JapaneseVerb("売り", "売る", "売った", "売ら"),
    (*OWN_THINGS, *LARGE_THINGS, HORSE, COW),
)
FIND = Verb(
    "find", "found", "trouver", "trouvé", "trouver", "finden", "gefunden",
    "encontrar", ("encontré", "encontró", "encontramos", "encontraron"),
    JapaneseVerb("見つけ", "見つける", "見つけた", "見つけ"),
    (*OWN_THINGS, FLOWER, *PETS),
)
SEE = Verb(
    "see", "saw", "voir", "vu", "verr", "sehen", "gesehen",
    "ver", ("vi", "vio", "vimos", "vieron"), JapaneseVerb("見", "見る", "見た", "見"),
    (HOUSE, CAR, BOAT, *ANIMALS),
)
DRAW = Verb(
    "draw", "drew", "dessiner", "dessiné", "dessiner", "zeichnen", "gezeichnet",
    "dibujar", ("dibujé", "dibujó", "dibujamos", "dibujaron"), JapaneseVerb("描き", "描く", "描いた", "描か"),
    (HOUSE, BOAT, FLOWER, APPLE, *ANIMALS),
)
CLEAN = Verb(
    "clean", "cleaned", "nettoyer", "nettoyé", "nettoier", "putzen", "geputzt",
    "limpiar", ("limpié", "limpió", "limpiamos", "limpiaron"),
    JapaneseVerb("きれいにし", "きれいにする", "きれいにした", "きれいにし"),
    (HOUSE, CAR, BOAT, TABLE, CHAIR, LAMP),
)
LOSE = Verb(
    "lose", "lost", "perdre", "perdu", "perdr", "verlieren", "verloren",
    "perder", ("perdí", "perdió", "perdimos", "perdieron"), JapaneseVerb("なくし", "なくす", "なくした", "なくさ"),
    (*OWN_THINGS, *PETS),
    JapaneseVerb("見失い", "見失う", "見失った", "見失わ"),
)
EVENT_VERBS = (BUY, SELL, FIND, SEE, DRAW, CLEAN)

# 渡す (to hand) says giving without saying to whose circle giver and receiver belong, as あげる and くれる do.
GIVE = Verb(
    "give", "gave", "donner", "donné", "donner", "geben", "gegeben",
    "dar", ("di", "dio", "dimos", "dieron"), JapaneseVerb("渡し", "渡す", "渡した", "渡さ"),
    (*OWN_THINGS, FLOWER, APPLE, EGG),
)
SHOW = Verb(
    "show", "showed", "montrer", "montré", "montrer", "zeigen", "gezeigt",
    "mostrar", ("mostré", "mostró", "mostramos", "mostraron"), JapaneseVerb("見せ", "見せる", "見せた", "見せ"),
    (*OWN_THINGS, *LARGE_THINGS),
)
SEND = Verb(
    "send", "sent", "envoyer", "envoyé", "enverr", "schicken", "geschickt",
    "enviar", ("envié", "envió", "enviamos", "enviaron"), JapaneseVerb("送り", "送る", "送った", "送ら"),
    (*OWN_THINGS, FLOWER),
)
GIVING_VERBS = (GIVE, SHOW, SEND)

_HE = Phrase("he", "il", "er", "él", "彼")
_SHE = Phrase("she", "elle", "sie", "ella", "彼女")
_THEY = Phrase("they", "ils", "sie", "ellos", "彼ら")
I = Person("I", "je", "ich", "", "私", 0)  # noqa: E741
WE = Person("we", "nous", "wir", "", "私たち", 2)
HE = Person("he", "il", "er", "él", "彼", pronoun=_HE)
SHE = Person("she", "elle", "sie", "ella", "彼女", feminine=True, pronoun=_SHE)
MOTHER = Person(
    "my mother", "ma mère", "meine Mutter", "mi madre", "母", 1, True, "meiner Mutter", "meiner Mutter", _SHE
)
FATHER = Person(
    "my father", "mon père", "mein Vater", "mi padre", "父", 1, False, "meinem Vater", "meines Vaters", _HE
)
# Japanese says which is older; here both are younger than who speaks.
SISTER = Person(
    "my sister", "ma sœur", "meine Schwester", "mi hermana", "妹", 1, True, "meiner Schwester", "meiner Schwester", _SHE
)
BROTHER = Person(
    "my brother", "mon frère", "mein Bruder", "mi hermano", "弟", 1, False, "meinem Bruder", "meines Bruders", _HE
)
UNCLE = Person("my uncle", "mon oncle", "mein Onkel", "mi tío", "おじ", 1, False, "meinem Onkel", "meines Onkels", _HE)
AUNT = Person("my aunt", "ma tante", "meine Tante", "mi tía", "おば", 1, True, "meiner Tante", "meiner Tante", _SHE)
BOY = Person("the boy", "le garçon", "der Junge", "el niño", "男の子", 1, False, "dem Jungen", "des Jungen", _HE)
# No pronoun for the girl: German speakers differ between "es" and "sie".
GIRL = Person("the girl", "la fille", "das Mädchen", "la niña", "女の子", 1, True, "dem Mädchen", "des Mädchens")
KING = Person("the king", "le roi", "der König", "el rey", "王様", 1, False, "dem König", "des Königs", _HE)
QUEEN = Person(
    "the queen", "la reine", "die Königin", "la reina", "女王様", 1, True, "der Königin", "der Königin", _SHE
)
ANNA = Person("Anna", "Anna", "Anna", "Anna", "アンナ", 1, True, "Anna", "", _SHE)
PAUL = Person("Paul", "Paul", "Paul", "Paul", "ポール", 1, False, "Paul", "", _HE)
CHILDREN = Person(
    "the children", "les enfants", "die Kinder", "los niños", "子供たち", 3, False, "den Kindern", "", _THEY
)
PARENTS = Person(
    "my parents", "mes parents", "meine Eltern", "mis padres", "両親", 3, False, "meinen Eltern", "", _THEY
)
# fmt: on

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

# Where somebody goes, and where something happens.
GOALS = (
    Phrase("to the station", "à la gare", "zum Bahnhof", "a la estación", "駅に"),
    Phrase("to the market", "au marché", "zum Markt", "al mercado", "市場に"),
    Phrase("to the church", "à l'église", "zur Kirche", "a la iglesia", "教会に"),
    Phrase("to the museum", "au musée", "zum Museum", "al museo", "博物館に"),
    Phrase("to the beach", "à la plage", "zum Strand", "a la playa", "浜辺に"),
    Phrase("to the hospital", "à l'hôpital", "zum Krankenhaus", "al hospital", "病院に"),
    Phrase("to the hotel", "à l'hôtel", "zum Hotel", "al hotel", "ホテルに"),
    Phrase("to the library", "à la bibliothèque", "zur Bibliothek", "a la biblioteca", "図書館に"),
    Phrase("to the school", "à l'école", "zur Schule", "a la escuela", "学校に"),
    Phrase("to the park", "au parc", "zum Park", "al parque", "公園に"),
)
SCENES = (
    Phrase("at the station", "à la gare", "am Bahnhof", "en la estación", "駅で"),
    Phrase("at the market", "au marché", "auf dem Markt", "en el mercado", "市場で"),
    Phrase("on the beach", "sur la plage", "am Strand", "en la playa", "浜辺で"),
    Phrase("in the park", "dans le parc", "im Park", "en el parque", "公園で"),
    Phrase("in the garden", "dans le jardin", "im Garten", "en el jardín", "庭で"),
    Phrase("in the forest", "dans la forêt", "im Wald", "en el bosque", "森で"),
)
ROOMS = (
    Phrase("in the kitchen", "dans la cuisine", "in der Küche", "en la cocina", "台所で"),
    Phrase("in the garden", "dans le jardin", "im Garten", "en el jardín", "庭で"),
    Phrase("in the park", "dans le parc", "im Park", "en el parque", "公園で"),
    Phrase("at the station", "à la gare", "am Bahnhof", "en la estación", "駅で"),
    Phrase("at the hotel", "à l'hôtel", "im Hotel", "en el hotel", "ホテルで"),
)
KITCHEN = ROOMS[0]
MARKET = SCENES[1]

# Prepositions of place. French and Spanish de contracts with the article, German takes the dative, and Japanese puts
# a noun of place behind.
UNDER = Phrase("under", "sous", "unter", "debajo de", "下")
ON = Phrase("on", "sur", "auf", "sobre", "上")
BEHIND = Phrase("behind", "derrière", "hinter", "detrás de", "後ろ")
IN_FRONT = Phrase("in front of", "devant", "vor", "delante de", "前")
NEXT_TO = Phrase("next to", "à côté de", "neben", "al lado de", "横")
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
    Phrase("on Monday", "lundi", "am Montag", "el lunes", "月曜日に"),
    Phrase("on Tuesday", "mardi", "am Dienstag", "el martes", "火曜日に"),
    Phrase("on Wednesday", "mercredi", "am Mittwoch", "el miércoles", "水曜日に"),
    Phrase("on Thursday", "jeudi", "am Donnerstag", "el jueves", "木曜日に"),
    Phrase("on Friday", "vendredi", "am Freitag", "el viernes", "金曜日に"),
    Phrase("on Saturday", "samedi", "am Samstag", "el sábado", "土曜日に"),
    Phrase("on Sunday", "dimanche", "am Sonntag", "el domingo", "日曜日に"),
)
PAST_TIMES = (
    Phrase("yesterday", "hier", "gestern", "ayer", "昨日"),
    Phrase("yesterday evening", "hier soir", "gestern Abend", "ayer por la noche", "昨日の夜"),
    Phrase("this morning", "ce matin", "heute Morgen", "esta mañana", "今朝"),
    Phrase("last week", "la semaine dernière", "letzte Woche", "la semana pasada", "先週"),
    Phrase("last year", "l'année dernière", "letztes Jahr", "el año pasado", "去年"),
    *WEEKDAYS,
)
FUTURE_TIMES = (
    Phrase("tomorrow", "demain", "morgen", "mañana", "明日"),
    Phrase("tomorrow evening", "demain soir", "morgen Abend", "mañana por la noche", "明日の夜"),
    Phrase("this evening", "ce soir", "heute Abend", "esta noche", "今夜"),
    Phrase("next week", "la semaine prochaine", "nächste Woche", "la próxima semana", "来週"),
    *WEEKDAYS,
)
HABIT_TIMES = (
    Phrase("every day", "chaque jour", "jeden Tag", "todos los días", "毎日"),
    Phrase("every morning", "chaque matin", "jeden Morgen", "todas las mañanas", "毎朝"),
    Phrase("every evening", "chaque soir", "jeden Abend", "todas las noches", "毎晩"),
    Phrase("every Sunday", "chaque dimanche", "jeden Sonntag", "todos los domingos", "毎週日曜日に"),
)
DAY_PARTS = (
    Phrase("in the morning", "le matin", "morgens", "por la mañana", "朝"),
    Phrase("in the evening", "le soir", "abends", "por la noche", "夜"),
)

CITIES = (
    Phrase("Paris", "Paris", "Paris", "París", "パリ"),
    Phrase("Berlin", "Berlin", "Berlin", "Berlín", "ベルリン"),
    Phrase("London", "Londres", "London", "Londres", "ロンドン"),
    Phrase("Rome", "Rome", "Rom", "Roma", "ローマ"),
    Phrase("Vienna", "Vienne", "Wien", "Viena", "ウィーン"),
)
NUMBERS = (
    Phrase("two", "deux", "zwei", "dos", "二"),
    Phrase("three", "trois", "drei", "tres", "三"),
    Phrase("four", "quatre", "vier", "cuatro", "四"),
    Phrase("five", "cinq", "fünf", "cinco", "五"),
    Phrase("six", "six", "sechs", "seis", "六"),
    Phrase("seven", "sept", "sieben", "siete", "七"),
    Phrase("eight", "huit", "acht", "ocho", "八"),
    Phrase("nine", "neuf", "neun", "nueve", "九"),
    Phrase("ten", "dix", "zehn", "diez", "十"),
)
# Vehicles, with the article; then the German verb of leaving.
VEHICLES = (
    (Phrase("the train", "le train", "der Zug", "el tren", "電車"), "fährt"),
    (Phrase("the bus", "le bus", "der Bus", "el autobús", "バス"), "fährt"),
    (Phrase("the plane", "l'avion", "das Flugzeug", "el avión", "飛行機"), "fliegt"),
)
# Mass nouns, the French one with its partitive article.
DRINKS = (
    Phrase("coffee", "du café", "Kaffee", "café", "コーヒー"),
    Phrase("tea", "du thé", "Tee", "té", "お茶"),
    Phrase("milk", "du lait", "Milch", "leche", "牛乳"),
    Phrase("water", "de l'eau", "Wasser", "agua", "水"),
)
SOUP = Phrase("soup", "de la soupe", "Suppe", "sopa", "スープ")
FOODS = (
    Phrase("bread", "du pain", "Brot", "pan", "パン"),
    Phrase("cheese", "du fromage", "Käse", "queso", "チーズ"),
    SOUP,
    Phrase("fish", "du poisson", "Fisch", "pescado", "魚"),
)

HAVE = PresentVerb(
    ("have", "has", "have", "have"),
    ("ai", "a", "avons", "ont"),
    ("habe", "hat", "haben", "haben"),
    ("tengo", "tiene", "tenemos", "tienen"),
)
BE = PresentVerb(
    ("am", "is", "are", "are"),
    ("suis", "est", "sommes", "sont"),
    ("bin", "ist", "sind", "sind"),
    ("estoy", "está", "estamos", "están"),
)
GO = PresentVerb(
    BE.en,
    ("vais", "va", "allons", "vont"),
    ("gehe", "geht", "gehen", "gehen"),
    ("voy", "va", "vamos", "van"),
    "行き",
)
ES_WENT = ("fui", "fue", "fuimos", "fueron")
# The Japanese modals are endings: see japanese.py.
WANT = PresentVerb(
    ("want to", "wants to", "want to", "want to"),
    ("veux", "veut", "voulons", "veulent"),
    ("will", "will", "wollen", "wollen"),
    ("quiero", "quiere", "queremos", "quieren"),
)
MUST = PresentVerb(
    ("must",) * 4,
    ("dois", "doit", "devons", "doivent"),
    ("muss", "muss", "müssen", "müssen"),
    ("tengo que", "tiene que", "tenemos que", "tienen que"),
)
CAN = PresentVerb(
    ("can",) * 4,
    ("peux", "peut", "pouvons", "peuvent"),
    ("kann", "kann", "können", "können"),
    ("puedo", "puede", "podemos", "pueden"),
)
MODALS = (WANT, MUST, CAN)
DRINK = PresentVerb(
    ("drink", "drinks", "drink", "drink"),
    ("bois", "boit", "buvons", "boivent"),
    ("trinke", "trinkt", "trinken", "trinken"),
    ("bebo", "bebe", "bebemos", "beben"),
    "飲み",
)
EAT = PresentVerb(
    ("eat", "eats", "eat", "eat"),
    ("mange", "mange", "mangeons", "mangent"),
    ("esse", "isst", "essen", "essen"),
    ("como", "come", "comemos", "comen"),
    "食べ",
)
BUY_NOW = PresentVerb(
    ("buy", "buys", "buy", "buy"),
    ("achète", "achète", "achetons", "achètent"),
    ("kaufe", "kauft", "kaufen", "kaufen"),
    ("compro", "compra", "compramos", "compran"),
    "買い",
)
FR_FUTURE_ENDINGS = ("ai", "a", "ons", "ont")
ES_FUTURE_ENDINGS = ("é", "á", "emos", "án")
DE_FUTURE = ("werde", "wird", "werden", "werden")

# What an animal is doing: English after is/are, French and German in the third person singular, Spanish after está,
# Japanese before ます.
DOINGS = (
    Phrase("sleeping", "dort", "schläft", "durmiendo", "寝てい"),
    Phrase("waiting", "attend", "wartet", "esperando", "待ってい"),
    Phrase("playing", "joue", "spielt", "jugando", "遊んでい"),
    Phrase("eating", "mange", "frisst", "comiendo", "食べてい"),
)

WHY = Phrase("why", "pourquoi", "warum", "por qué", "なぜ")
ASKING = (Phrase("where", "où", "wo", "dónde", "どこで"), Phrase("when", "quand", "wann", "cuándo", "いつ"), WHY)


class Comparative(NamedTuple):
    """`fr`, `es`: masculine and feminine; `ja`: said of things, and of animals."""

    en: str
    fr: tuple[str, str]
    de: str
    es: tuple[str, str]
    ja: tuple[str, str]


COMPARATIVES = (
    Comparative("bigger", ("plus grand", "plus grande"), "größer", ("más grande", "más grande"), ("大きいです",) * 2),
    Comparative(
        "smaller", ("plus petit", "plus petite"), "kleiner", ("más pequeño", "más pequeña"), ("小さいです",) * 2
    ),
    Comparative(
        "older",
        ("plus vieux", "plus vieille"),
        "älter",
        ("más viejo", "más vieja"),
        ("古いです", "年を取っています"),
    ),
    Comparative(
        "more beautiful", ("plus beau", "plus belle"), "schöner", ("más bonito", "más bonita"), ("美しいです",) * 2
    ),
)


class Feeling(NamedTuple):
    """`fr`: masculine, feminine, plural; `es`: the same; `verbs`: what brings the feeling about."""

    en: str
    fr: tuple[str, str, str]
    de: str
    es: tuple[str, str, str]
    ja: str
    verbs: tuple[Verb, ...]


FEELINGS = (
    Feeling(
        "happy",
        ("heureux", "heureuse", "heureux"),
        "glücklich",
        ("contento", "contenta", "contentos"),
        "喜んでいます",
        (FIND, BUY),
    ),
    Feeling(
        "sad",
        ("triste", "triste", "tristes"),
        "traurig",
        ("triste", "triste", "tristes"),
        "悲しんでいます",
        (LOSE, SELL),
    ),
    Feeling(
        "angry",
        ("en colère", "en colère", "en colère"),
        "wütend",
        ("enojado", "enojada", "enojados"),
        "怒っています",
        (LOSE, SELL),
    ),
)


class Weather(NamedTuple):
    """Future and past of one kind of weather.

    German in two parts: what follows the verb's place, and the verb. `ja_place` follows the place in Japanese.
    """

    en_future: str
    en_past: str
    fr_future: str
    fr_past: str
    de_infinitive: str  # after "wird"
    de_past: tuple[str, str]  # finite verb, end of the sentence
    es_future: str
    es_past: str
    ja_place: str
    ja_future: str
    ja_past: str


# fmt: off
WEATHERS = (
    Weather(
        "rain", "rained", "il pleuvra", "il a plu", "regnen", ("hat", "geregnet"),
        "lloverá", "llovió", "では", "雨が降るでしょう", "雨が降りました",
    ),
    Weather(
        "snow", "snowed", "il neigera", "il a neigé", "schneien", ("hat", "geschneit"),
        "nevará", "nevó", "では", "雪が降るでしょう", "雪が降りました",
    ),
    Weather(
        "be cold", "was cold", "il fera froid", "il a fait froid", "kalt sein", ("war", "kalt"),
        "hará frío", "hizo frío", "は", "寒いでしょう", "寒かったです",
    ),
    Weather(
        "be warm", "was warm", "il fera chaud", "il a fait chaud", "warm sein", ("war", "warm"),
        "hará calor", "hizo calor", "は", "暖かいでしょう", "暖かかったです",
    ),
    Weather(
        "be windy", "was windy", "il y aura du vent", "il y a eu du vent", "windig sein", ("war", "windig"),
        "hará viento", "hizo viento", "は", "風が強いでしょう", "風が強かったです",
    ),
)
# fmt: on
