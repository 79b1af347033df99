"""The demo's phrase corpus: hand-checked translations, and splits that share nothing."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "demo"))

import corpus
import grammar
import lexicon


def name_of(option: Any) -> Any:
    """What a script calls an option: its English, or the English of its parts."""
    if isinstance(option, lexicon.PresentVerb):
        return option.en[1]
    if isinstance(option, lexicon.Weather):
        return option.en_future
    if hasattr(option, "en"):
        return option.en
    if isinstance(option, tuple):
        return " ".join(part.en for part in option if hasattr(part, "en")) or option[0]
    return option


def scripted(*names: Any) -> Callable[[Sequence[Any]], Any]:
    """A `pick` that takes the named options one after the other."""
    left = list(names)

    def pick(options: Sequence[Any]) -> Any:
        wanted = left.pop(0)
        found = [option for option in options if name_of(option) == wanted]
        assert found, f"{wanted!r} is none of {[name_of(option) for option in options]}"
        return found[0]

    return pick


# Written by hand, not by the grammar: agreement, elision and contraction in French, case, endings and word order in
# German, agreement and contraction in Spanish, particles, counters and verb forms in Japanese. No native speaker of
# Spanish or Japanese has read them.
CHECKED = [
    (
        grammar.past_event,
        ("I", "buy", "apple", "red", False, "this morning", False),
        "I bought a red apple this morning.",
        "J'ai acheté une pomme rouge ce matin.",
        "Ich habe heute Morgen einen roten Apfel gekauft.",
        "Compré una manzana roja esta mañana.",
        "私は今朝、赤いりんごを買いました。",
    ),
    (
        grammar.past_event,
        ("we", "see", "bird", "old", True, "last week", True),
        "Last week we saw the old bird.",
        "La semaine dernière, nous avons vu le vieil oiseau.",
        "Letzte Woche haben wir den alten Vogel gesehen.",
        "La semana pasada vimos el pájaro viejo.",
        "先週、私たちは年老いた鳥を見ました。",
    ),
    (
        grammar.past_event,
        ("the children", "draw", "horse", "white", False, "on Friday", True),
        "On Friday the children drew a white horse.",
        "Vendredi, les enfants ont dessiné un cheval blanc.",
        "Am Freitag haben die Kinder ein weißes Pferd gezeichnet.",
        "El viernes los niños dibujaron un caballo blanco.",
        "金曜日に、子供たちは白い馬を描きました。",
    ),
    (
        grammar.past_event,
        ("the girl", "clean", "table", "old", True, "yesterday evening", False),
        "The girl cleaned the old table yesterday evening.",
        "La fille a nettoyé la vieille table hier soir.",
        "Das Mädchen hat gestern Abend den alten Tisch geputzt.",
        "La niña limpió la mesa vieja ayer por la noche.",
        "女の子は昨日の夜、古いテーブルをきれいにしました。",
    ),
    (
        grammar.future_event,
        ("I", "buy", "shirt", "new", False, "tomorrow", True),
        "Tomorrow I will buy a new shirt.",
        "Demain, j'achèterai une nouvelle chemise.",
        "Morgen werde ich ein neues Hemd kaufen.",
        "Mañana compraré una camisa nueva.",
        "明日、私は新しいシャツを買います。",
    ),
    (
        grammar.future_event,
        ("my parents", "see", "boat", "beautiful", True, "next week", False),
        "My parents will see the beautiful boat next week.",
        "Mes parents verront le beau bateau la semaine prochaine.",
        "Meine Eltern werden nächste Woche das schöne Boot sehen.",
        "Mis padres verán el barco bonito la próxima semana.",
        "両親は来週、美しい船を見ます。",
    ),
    (
        grammar.future_event,
        ("we", "clean", "lamp", "green", True, "this evening", False),
        "We will clean the green lamp this evening.",
        "Nous nettoierons la lampe verte ce soir.",
        "Wir werden heute Abend die grüne Lampe putzen.",
        "Limpiaremos la lámpara verde esta noche.",
        "私たちは今夜、緑のランプをきれいにします。",
    ),
    (
        grammar.wish,
        ("the queen", "find", "wants to", "key", "small", True),
        "The queen wants to find the small key.",
        "La reine veut trouver la petite clé.",
        "Die Königin will den kleinen Schlüssel finden.",
        "La reina quiere encontrar la llave pequeña.",
        "女王様は小さい鍵を見つけたがっています。",
    ),
    (
        grammar.wish,
        ("I", "sell", "must", "umbrella", "yellow", False),
        "I must sell a yellow umbrella.",
        "Je dois vendre un parapluie jaune.",
        "Ich muss einen gelben Regenschirm verkaufen.",
        "Tengo que vender un paraguas amarillo.",
        "私は黄色い傘を売らなければなりません。",
    ),
    (
        grammar.sighting,
        ("Anna", "see", "bird", "beautiful", "in the forest", True, "three"),
        "Anna saw three beautiful birds in the forest.",
        "Anna a vu trois beaux oiseaux dans la forêt.",
        "Anna hat im Wald drei schöne Vögel gesehen.",
        "Anna vio tres pájaros bonitos en el bosque.",
        "アンナは森で美しい鳥を三羽見ました。",
    ),
    (
        grammar.sighting,
        ("my uncle", "lose", "bird", "beautiful", "at the station", False),
        "My uncle lost a beautiful bird at the station.",
        "Mon oncle a perdu un bel oiseau à la gare.",
        "Mein Onkel hat am Bahnhof einen schönen Vogel verloren.",
        "Mi tío perdió un pájaro bonito en la estación.",
        "おじは駅で美しい鳥を見失いました。",
    ),
    (
        grammar.possession,
        ("my brother", True, "horse", "two", "brown", "behind house"),
        "My brother has two brown horses behind the house.",
        "Mon frère a deux chevaux bruns derrière la maison.",
        "Mein Bruder hat hinter dem Haus zwei braune Pferde.",
        "Mi hermano tiene dos caballos marrones detrás de la casa.",
        "弟は家の後ろで茶色い馬を二頭飼っています。",
    ),
    (
        grammar.possession,
        ("I", False, "egg", "six", "white", "on table"),
        "I have six white eggs on the table.",
        "J'ai six œufs blancs sur la table.",
        "Ich habe auf dem Tisch sechs weiße Eier.",
        "Tengo seis huevos blancos sobre la mesa.",
        "私はテーブルの上に白い卵を六個置いています。",
    ),
    (
        grammar.animal_place,
        ("cat", "black", "sleeping", "under bed", False),
        "The black cat is sleeping under the bed.",
        "Le chat noir dort sous le lit.",
        "Die schwarze Katze schläft unter dem Bett.",
        "El gato negro está durmiendo debajo de la cama.",
        "黒い猫はベッドの下で寝ています。",
    ),
    (
        grammar.animal_place,
        ("bird", "blue", "eating", "next to tree", True),
        "Why is the blue bird eating next to the tree?",
        "Pourquoi est-ce que l'oiseau bleu mange à côté de l'arbre ?",
        "Warum frisst der blaue Vogel neben dem Baum?",
        "¿Por qué está comiendo el pájaro azul al lado del árbol?",
        "青い鳥はなぜ木の横で食べているのですか。",
    ),
    (
        grammar.there_is,
        (True, "dog", "big", "in front of church", True),
        "There is a big dog in front of the church.",
        "Il y a un grand chien devant l'église.",
        "Vor der Kirche ist ein großer Hund.",
        "Hay un perro grande delante de la iglesia.",
        "教会の前に大きい犬がいます。",
    ),
    (
        grammar.there_is,
        (False, "apple", "green", "next to bed", False, "five"),
        "There are five green apples next to the bed.",
        "Il y a cinq pommes vertes à côté du lit.",
        "Neben dem Bett sind fünf grüne Äpfel.",
        "Hay cinco manzanas verdes al lado de la cama.",
        "ベッドの横に緑のりんごが五個あります。",
    ),
    (
        grammar.owned,
        ("the boy", "umbrella", "blue", False, "behind door"),
        "The boy's blue umbrella is behind the door.",
        "Le parapluie bleu du garçon est derrière la porte.",
        "Der blaue Regenschirm des Jungen ist hinter der Tür.",
        "El paraguas azul del niño está detrás de la puerta.",
        "男の子の青い傘はドアの後ろにあります。",
    ),
    (
        grammar.owned,
        ("my aunt", "bag", "white", True),
        "Where is my aunt's white bag?",
        "Où est le sac blanc de ma tante ?",
        "Wo ist die weiße Tasche meiner Tante?",
        "¿Dónde está la bolsa blanca de mi tía?",
        "おばの白いかばんはどこにありますか。",
    ),
    (
        grammar.gift,
        ("my father", "the children", "give", "egg", "brown", False),
        "My father gave the children a brown egg.",
        "Mon père a donné un œuf brun aux enfants.",
        "Mein Vater hat den Kindern ein braunes Ei gegeben.",
        "Mi padre les dio un huevo marrón a los niños.",
        "父は子供たちに茶色い卵を渡しました。",
    ),
    (
        grammar.gift,
        ("we", "the boy", "show", "house", "old", True, "yesterday"),
        "Yesterday we showed the boy an old house.",
        "Hier, nous avons montré une vieille maison au garçon.",
        "Gestern haben wir dem Jungen ein altes Haus gezeigt.",
        "Ayer le mostramos una casa vieja al niño.",
        "昨日、私たちは男の子に古い家を見せました。",
    ),
    (
        grammar.journey,
        ("my sister", "to the hospital", "on Monday", False),
        "My sister went to the hospital on Monday.",
        "Ma sœur est allée à l'hôpital lundi.",
        "Meine Schwester ist am Montag zum Krankenhaus gegangen.",
        "Mi hermana fue al hospital el lunes.",
        "妹は月曜日に病院に行きました。",
    ),
    (
        grammar.journey,
        ("my parents", "to the library", "last year", True),
        "Last year my parents went to the library.",
        "L'année dernière, mes parents sont allés à la bibliothèque.",
        "Letztes Jahr sind meine Eltern zur Bibliothek gegangen.",
        "El año pasado mis padres fueron a la biblioteca.",
        "去年、両親は図書館に行きました。",
    ),
    (
        grammar.company,
        ("I", "to the beach", True, "dog", "brown"),
        "I am going to the beach with the brown dog.",
        "Je vais à la plage avec le chien brun.",
        "Ich gehe mit dem braunen Hund zum Strand.",
        "Voy a la playa con el perro marrón.",
        "私は茶色い犬と一緒に浜辺に行きます。",
    ),
    (
        grammar.company,
        ("the king", "to the market", False, "my aunt"),
        "The king is going to the market with my aunt.",
        "Le roi va au marché avec ma tante.",
        "Der König geht mit meiner Tante zum Markt.",
        "El rey va al mercado con mi tía.",
        "王様はおばと一緒に市場に行きます。",
    ),
    (
        grammar.habit,
        ("we", "every morning", True, "water", "in the kitchen"),
        "Every morning we drink water in the kitchen.",
        "Chaque matin, nous buvons de l'eau dans la cuisine.",
        "Jeden Morgen trinken wir in der Küche Wasser.",
        "Todas las mañanas bebemos agua en la cocina.",
        "毎朝、私たちは台所で水を飲みます。",
    ),
    (
        grammar.never,
        ("she", "drinks", "water", "in the evening"),
        "She never drinks water in the evening.",
        "Elle ne boit jamais d'eau le soir.",
        "Sie trinkt abends nie Wasser.",
        "Ella nunca bebe agua por la noche.",
        "彼女は夜、決して水を飲みません。",
    ),
    (
        grammar.never,
        ("the children", "buys", "soup"),
        "The children never buy soup at the market.",
        "Les enfants n'achètent jamais de soupe au marché.",
        "Die Kinder kaufen auf dem Markt nie Suppe.",
        "Los niños nunca compran sopa en el mercado.",
        "子供たちは市場で決してスープを買いません。",
    ),
    (
        grammar.feeling,
        ("my mother", "happy", "find", "hat", "old"),
        "My mother is happy because she found the old hat.",
        "Ma mère est heureuse parce qu'elle a trouvé le vieux chapeau.",
        "Meine Mutter ist glücklich, weil sie den alten Hut gefunden hat.",
        "Mi madre está contenta porque encontró el sombrero viejo.",
        "母は古い帽子を見つけたので、喜んでいます。",
    ),
    (
        grammar.feeling,
        ("my parents", "sad", "lose", "cat", "white"),
        "My parents are sad because they lost the white cat.",
        "Mes parents sont tristes parce qu'ils ont perdu le chat blanc.",
        "Meine Eltern sind traurig, weil sie die weiße Katze verloren haben.",
        "Mis padres están tristes porque perdieron el gato blanco.",
        "両親は白い猫を見失ったので、悲しんでいます。",
    ),
    (
        grammar.comparison,
        ("house car boat chair table", "car", "blue", "chair", "green", "older"),
        "The blue car is older than the green chair.",
        "La voiture bleue est plus vieille que la chaise verte.",
        "Das blaue Auto ist älter als der grüne Stuhl.",
        "El coche azul es más viejo que la silla verde.",
        "青い車は緑の椅子より古いです。",
    ),
    (
        grammar.weather,
        ("be windy", "Vienna", False, True, "last week"),
        "Last week it was windy in Vienna.",
        "La semaine dernière, il y a eu du vent à Vienne.",
        "Letzte Woche war es in Wien windig.",
        "La semana pasada hizo viento en Viena.",
        "先週、ウィーンは風が強かったです。",
    ),
    (
        grammar.weather,
        ("be cold", "London", True, False, "tomorrow evening"),
        "It will be cold in London tomorrow evening.",
        "Il fera froid demain soir à Londres.",
        "Es wird morgen Abend in London kalt sein.",
        "Hará frío en Londres mañana por la noche.",
        "ロンドンは明日の夜、寒いでしょう。",
    ),
    (
        grammar.timetable,
        ("the plane", "Rome", "seven", "on Sunday", True),
        "The plane to Rome leaves on Sunday at seven o'clock.",
        "L'avion pour Rome part dimanche à sept heures.",
        "Das Flugzeug nach Rom fliegt am Sonntag um sieben Uhr ab.",
        "El avión a Roma sale el domingo a las siete.",
        "ローマ行きの飛行機は日曜日の七時に出発します。",
    ),
    (
        grammar.question,
        ("Anna", "buy", "horse", "small", True, "last year"),
        "Did Anna buy the small horse last year?",
        "Est-ce qu'Anna a acheté le petit cheval l'année dernière ?",
        "Hat Anna letztes Jahr das kleine Pferd gekauft?",
        "¿Compró Anna el caballo pequeño el año pasado?",
        "アンナは去年、小さい馬を買いましたか。",
    ),
    (
        grammar.question,
        ("he", "buy", "flower", "red", False, "where"),
        "Where did he buy the red flower?",
        "Où est-ce qu'il a acheté la fleur rouge ?",
        "Wo hat er die rote Blume gekauft?",
        "¿Dónde compró él la flor roja?",
        "彼はどこで赤い花を買いましたか。",
    ),
    (
        grammar.past_event,
        ("she", "sell", "house", "big", True, "on Sunday", False),
        "She sold the big house on Sunday.",
        "Elle a vendu la grande maison dimanche.",
        "Sie hat am Sonntag das große Haus verkauft.",
        "Ella vendió la casa grande el domingo.",
        "彼女は日曜日に大きい家を売りました。",
    ),
    (
        grammar.wish,
        ("we", "buy", "wants to", "dog", "brown", False),
        "We want to buy a brown dog.",
        "Nous voulons acheter un chien brun.",
        "Wir wollen einen braunen Hund kaufen.",
        "Queremos comprar un perro marrón.",
        "私たちは茶色い犬を買いたいです。",
    ),
    (
        grammar.wish,
        ("my parents", "clean", "can", "car", "blue", True),
        "My parents can clean the blue car.",
        "Mes parents peuvent nettoyer la voiture bleue.",
        "Meine Eltern können das blaue Auto putzen.",
        "Mis padres pueden limpiar el coche azul.",
        "両親は青い車をきれいにすることができます。",
    ),
    (
        grammar.sighting,
        ("I", "lose", "book", "red", "in the park", True, "two"),
        "I lost two red books in the park.",
        "J'ai perdu deux livres rouges dans le parc.",
        "Ich habe im Park zwei rote Bücher verloren.",
        "Perdí dos libros rojos en el parque.",
        "私は公園で赤い本を二冊なくしました。",
    ),
    (
        grammar.there_is,
        (True, "duck", "white", "behind hotel", False, "ten"),
        "There are ten white ducks behind the hotel.",
        "Il y a dix canards blancs derrière l'hôtel.",
        "Hinter dem Hotel sind zehn weiße Enten.",
        "Hay diez patos blancos detrás del hotel.",
        "ホテルの後ろに白いアヒルが十羽います。",
    ),
    (
        grammar.owned,
        ("the king", "shirt", "yellow", False, "on chair"),
        "The king's yellow shirt is on the chair.",
        "La chemise jaune du roi est sur la chaise.",
        "Das gelbe Hemd des Königs ist auf dem Stuhl.",
        "La camisa amarilla del rey está sobre la silla.",
        "王様の黄色いシャツは椅子の上にあります。",
    ),
    (
        grammar.gift,
        ("Anna", "the king", "send", "flower", "blue", True, "this morning"),
        "This morning Anna sent the king a blue flower.",
        "Ce matin, Anna a envoyé une fleur bleue au roi.",
        "Heute Morgen hat Anna dem König eine blaue Blume geschickt.",
        "Esta mañana Anna le envió una flor azul al rey.",
        "今朝、アンナは王様に青い花を送りました。",
    ),
    (
        grammar.habit,
        ("I", "every Sunday", False, "soup", "at the hotel"),
        "Every Sunday I eat soup at the hotel.",
        "Chaque dimanche, je mange de la soupe à l'hôtel.",
        "Jeden Sonntag esse ich im Hotel Suppe.",
        "Todos los domingos como sopa en el hotel.",
        "毎週日曜日に、私はホテルでスープを飲みます。",
    ),
    (
        grammar.never,
        ("Paul", "eats", "fish", "in the morning"),
        "Paul never eats fish in the morning.",
        "Paul ne mange jamais de poisson le matin.",
        "Paul isst morgens nie Fisch.",
        "Paul nunca come pescado por la mañana.",
        "ポールは朝、決して魚を食べません。",
    ),
    (
        grammar.feeling,
        ("my brother", "angry", "sell", "cow", "black"),
        "My brother is angry because he sold the black cow.",
        "Mon frère est en colère parce qu'il a vendu la vache noire.",
        "Mein Bruder ist wütend, weil er die schwarze Kuh verkauft hat.",
        "Mi hermano está enojado porque vendió la vaca negra.",
        "弟は黒い牛を売ったので、怒っています。",
    ),
    (
        grammar.comparison,
        ("cat dog horse bird cow duck", "cow", "brown", "dog", "white", "older"),
        "The brown cow is older than the white dog.",
        "La vache brune est plus vieille que le chien blanc.",
        "Die braune Kuh ist älter als der weiße Hund.",
        "La vaca marrón es más vieja que el perro blanco.",
        "茶色い牛は白い犬より年を取っています。",
    ),
    (
        grammar.weather,
        ("rain", "Berlin", False, False, "on Tuesday"),
        "It rained in Berlin on Tuesday.",
        "Il a plu mardi à Berlin.",
        "Es hat am Dienstag in Berlin geregnet.",
        "Llovió en Berlín el martes.",
        "ベルリンでは火曜日に雨が降りました。",
    ),
    (
        grammar.timetable,
        ("the train", "London", "ten", "tomorrow", False),
        "The train from London arrives tomorrow at ten o'clock.",
        "Le train de Londres arrive demain à dix heures.",
        "Der Zug aus London kommt morgen um zehn Uhr an.",
        "El tren de Londres llega mañana a las diez.",
        "ロンドンからの電車は明日の十時に到着します。",
    ),
    (
        grammar.question,
        ("the children", "find", "cat", "old", False, "why"),
        "Why did the children find the old cat?",
        "Pourquoi est-ce que les enfants ont trouvé le vieux chat ?",
        "Warum haben die Kinder die alte Katze gefunden?",
        "¿Por qué encontraron los niños el gato viejo?",
        "子供たちはなぜ年老いた猫を見つけたのですか。",
    ),
    (
        grammar.question,
        ("my aunt", "sell", "boat", "white", False, "when"),
        "When did my aunt sell the white boat?",
        "Quand est-ce que ma tante a vendu le bateau blanc ?",
        "Wann hat meine Tante das weiße Boot verkauft?",
        "¿Cuándo vendió mi tía el barco blanco?",
        "おばはいつ白い船を売りましたか。",
    ),
]


@pytest.mark.parametrize(
    ("pattern", "script", "en", "fr", "de", "es", "ja"), CHECKED, ids=[case[2] for case in CHECKED]
)
def test_translations_are_those_written_by_hand(pattern, script, en, fr, de, es, ja):
    assert pattern(scripted(*script)) == lexicon.Phrase(en, fr, de, es, ja)


def test_every_pattern_has_a_checked_sentence():
    assert {case[0] for case in CHECKED} == set(grammar.PATTERNS)


@pytest.fixture(scope="module")
def splits() -> corpus.Splits:
    return corpus.build_splits(seed=3)


@pytest.fixture(scope="module")
def pool() -> list[lexicon.Phrase]:
    stream = corpus.sentences(random.Random(0))
    return [next(stream) for _ in range(20000)]


def test_an_english_sentence_has_one_translation(pool):
    by_english = {}
    for row in pool:
        assert by_english.setdefault(row.en, row) == row


def test_about_two_hundred_english_words(pool):
    assert 180 <= len({word for row in pool for word in corpus.words(row.en)}) <= 220


def test_training_sentences_have_every_word_of_the_test_sentences(splits):
    known = {word for row in splits.train for word in corpus.words(row.en)}
    assert {word for row in splits.test for word in corpus.words(row.en)} <= known


def test_sentences_are_clean_text(pool):
    for row in pool:
        for text in row:
            assert text == text.strip()
            assert "  " not in text
        asks = row.en.endswith("?")
        assert all(text.lstrip("¿")[0].isupper() for text in row[:4])
        assert [text[-1] for text in row[:4]] == ["?" if asks else "."] * 4
        assert (row.es[0] == "¿") == asks
        assert row.ja.endswith("か。") == asks
        assert row.ja.endswith("。")


@pytest.mark.parametrize(
    "wrong",
    ["de le ", "de les ", "à le ", "à les ", "le a", "la é", "de é", "que il", "que elle", "je a", "je e", "ne a"],
)
def test_french_contracts_and_elides(pool, wrong):
    for row in pool:
        assert f" {wrong}" not in f" {row.fr.lower()}", row.fr


# Spanish nouns whose gender their ending does not say (-o masculine, -a feminine).
SPANISH_GENDER = {
    "m": {"paraguas", "coche", "árbol", "hotel", "autobús", "avión", "tren", "rey"},
    "f": {"flor", "llave"},
}


def spanish_gender(noun: str) -> str:
    known = [gender for gender, nouns in SPANISH_GENDER.items() if noun in nouns]
    return known[0] if known else {"o": "m", "a": "f"}[noun[-1]]


def test_spanish_articles_and_adjectives_agree_with_their_nouns():
    """By the endings of the words, not by the genders of the lexicon."""
    nouns = [value for value in vars(lexicon).values() if isinstance(value, lexicon.Noun)]
    adjectives = [value for value in vars(lexicon).values() if isinstance(value, lexicon.Adjective)]
    assert (len(nouns), len(adjectives)) == (28, 12)
    for noun in nouns:
        assert noun.es_gender == spanish_gender(noun.es)
        assert noun.es_plural in (noun.es + "s", noun.es + "es") or noun.es == noun.es_plural == "paraguas"
    for word in adjectives:
        masculine, feminine, *plural = word.es
        assert feminine == (masculine[:-1] + "a" if masculine.endswith("o") else masculine)
        assert plural == [
            one + "s" if one[-1] in "aeo" else one.replace("ó", "o") + "es" for one in (masculine, feminine)
        ]


def test_spanish_noun_phrases_agree_in_every_sentence(pool):
    nouns = {value.es for value in vars(lexicon).values() if isinstance(value, lexicon.Noun)}
    genders = {"el": "m", "un": "m", "del": "m", "al": "m", "la": "f", "una": "f"}
    endings = {"o": "m", "a": "f"}
    seen = set()
    for row in pool:
        for article, noun, adjective in re.findall(r"(?=\b(el|un|del|al|la|una) (\w+)\b ?(\w*))", row.es.lower()):
            if noun in nouns:
                assert spanish_gender(noun) == genders[article], row.es
                if adjective in {word for one in lexicon._GOODS for word in one.es} and adjective[-1] in endings:
                    assert endings[adjective[-1]] == genders[article], row.es
                    seen.add(noun)
    assert len(seen) == 21, "every noun that has adjectives"


def test_spanish_contracts_and_never_says_a_pronoun_of_the_ending(pool):
    for row in pool:
        words = f" {row.es.lower()}"
        assert not any(f" {wrong} " in words for wrong in ("de el", "a el", "yo", "nosotros")), row.es


# What is counted -> the counter that a Japanese grammar names for it.
COUNTERS = {
    **dict.fromkeys(("猫", "犬"), "匹"), **dict.fromkeys(("馬", "牛"), "頭"), **dict.fromkeys(("鳥", "アヒル"), "羽"),
    **dict.fromkeys(("鍵", "傘", "花"), "本"), "本": "冊", "シャツ": "枚",
    **dict.fromkeys(("帽子", "かばん", "ランプ", "りんご", "卵"), "個"),
}  # fmt: skip
LIVING = ("猫", "犬", "馬", "牛", "鳥", "アヒル")


def test_japanese_counts_each_thing_with_its_counter(pool):
    found = set()
    for row in pool:
        for noun, counter in re.findall(r"([^いのた]+)[をが][二三四五六七八九十]([^ぁ-ん])", row.ja):
            assert COUNTERS[noun] == counter, row.ja
            found.add(noun)
    assert found == {*COUNTERS}


def test_japanese_is_written_without_spaces_and_ends_politely(pool):
    for row in pool:
        assert re.fullmatch(r"[ぁ-んァ-ヴー一-龯、。]+", row.ja), row.ja
        assert re.search(r"(ます|ました|ません|です|でしょう|ますか|ましたか|のですか|なりません)。$", row.ja), row.ja
        assert not re.search(r"をを|がが|にに|でで|のの|をが|にで", row.ja), row.ja
        assert row.ja.count("は") == (not row.en.startswith("There ")), row.ja


def test_japanese_has_other_verbs_for_what_lives(pool):
    kinds = {"います": 0, "あります": 0}
    for row in pool:
        if found := re.search(r"に([^に]*)が[二三四五六七八九十]?[匹頭羽本冊枚個]?(います|あります)。$", row.ja):
            assert found[1].endswith(LIVING) == (found[2] == "います"), row.ja
            kinds[found[2]] += 1
    assert min(kinds.values()) > 100


def test_splits_share_no_text_in_any_language(splits):
    parts = [{text for row in part for text in row} for part in (splits.train, splits.valid, splits.test)]
    assert parts[0].isdisjoint(parts[1])
    assert parts[0].isdisjoint(parts[2])
    assert parts[1].isdisjoint(parts[2])
    assert [len({row.en for row in part}) for part in (splits.train, splits.valid, splits.test)] == [3000, 100, 320]


def test_written_text_holds_no_held_out_sentence(splits):
    text = corpus.text_corpus(splits, 20000, seed=3)
    assert len(text) == 20000
    assert text[: len(splits.train)] == splits.train
    assert splits.held_out().isdisjoint(part for row in text for part in row)


def test_a_held_out_translation_is_found(splits):
    leak = lexicon.Phrase("Another sentence.", "Une autre.", "Ein anderer Satz.", "Otra frase.", splits.test[0].ja)
    with pytest.raises(AssertionError, match="held-out"):
        corpus.check_disjoint([leak], splits.held_out())


def test_the_seed_decides_the_splits(splits):
    assert corpus.build_splits(seed=3) == splits
    assert corpus.build_splits(seed=4).test != splits.test


def test_files_keep_the_sentences(splits, tmp_path):
    corpus.write_rows(tmp_path / "test.tsv", splits.test)
    assert corpus.read_rows(tmp_path / "test.tsv") == splits.test
