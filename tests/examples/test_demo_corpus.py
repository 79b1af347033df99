"""The demo's phrase corpus: hand-checked translations, and splits that share nothing."""

from __future__ import annotations

import random
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


# Each row was read by a person: agreement, elision and contraction in French, case, endings and word order in German.
CHECKED = [
    (
        grammar.past_event,
        ("I", "buy", "apple", "red", False, "this morning", False),
        "I bought a red apple this morning.",
        "J'ai acheté une pomme rouge ce matin.",
        "Ich habe heute Morgen einen roten Apfel gekauft.",
    ),
    (
        grammar.past_event,
        ("we", "see", "bird", "old", True, "last week", True),
        "Last week we saw the old bird.",
        "La semaine dernière, nous avons vu le vieil oiseau.",
        "Letzte Woche haben wir den alten Vogel gesehen.",
    ),
    (
        grammar.past_event,
        ("the children", "draw", "horse", "white", False, "on Friday", True),
        "On Friday the children drew a white horse.",
        "Vendredi, les enfants ont dessiné un cheval blanc.",
        "Am Freitag haben die Kinder ein weißes Pferd gezeichnet.",
    ),
    (
        grammar.past_event,
        ("the girl", "clean", "table", "old", True, "yesterday evening", False),
        "The girl cleaned the old table yesterday evening.",
        "La fille a nettoyé la vieille table hier soir.",
        "Das Mädchen hat gestern Abend den alten Tisch geputzt.",
    ),
    (
        grammar.future_event,
        ("I", "buy", "shirt", "new", False, "tomorrow", True),
        "Tomorrow I will buy a new shirt.",
        "Demain, j'achèterai une nouvelle chemise.",
        "Morgen werde ich ein neues Hemd kaufen.",
    ),
    (
        grammar.future_event,
        ("my parents", "see", "boat", "beautiful", True, "next week", False),
        "My parents will see the beautiful boat next week.",
        "Mes parents verront le beau bateau la semaine prochaine.",
        "Meine Eltern werden nächste Woche das schöne Boot sehen.",
    ),
    (
        grammar.future_event,
        ("we", "clean", "lamp", "green", True, "this evening", False),
        "We will clean the green lamp this evening.",
        "Nous nettoierons la lampe verte ce soir.",
        "Wir werden heute Abend die grüne Lampe putzen.",
    ),
    (
        grammar.wish,
        ("the queen", "find", "wants to", "key", "small", True),
        "The queen wants to find the small key.",
        "La reine veut trouver la petite clé.",
        "Die Königin will den kleinen Schlüssel finden.",
    ),
    (
        grammar.wish,
        ("I", "sell", "must", "umbrella", "yellow", False),
        "I must sell a yellow umbrella.",
        "Je dois vendre un parapluie jaune.",
        "Ich muss einen gelben Regenschirm verkaufen.",
    ),
    (
        grammar.sighting,
        ("Anna", "see", "bird", "beautiful", "in the forest", True, "three"),
        "Anna saw three beautiful birds in the forest.",
        "Anna a vu trois beaux oiseaux dans la forêt.",
        "Anna hat im Wald drei schöne Vögel gesehen.",
    ),
    (
        grammar.sighting,
        ("my uncle", "lose", "bird", "beautiful", "at the station", False),
        "My uncle lost a beautiful bird at the station.",
        "Mon oncle a perdu un bel oiseau à la gare.",
        "Mein Onkel hat am Bahnhof einen schönen Vogel verloren.",
    ),
    (
        grammar.possession,
        ("my brother", True, "horse", "two", "brown", "behind house"),
        "My brother has two brown horses behind the house.",
        "Mon frère a deux chevaux bruns derrière la maison.",
        "Mein Bruder hat hinter dem Haus zwei braune Pferde.",
    ),
    (
        grammar.possession,
        ("I", False, "egg", "six", "white", "on table"),
        "I have six white eggs on the table.",
        "J'ai six œufs blancs sur la table.",
        "Ich habe auf dem Tisch sechs weiße Eier.",
    ),
    (
        grammar.animal_place,
        ("cat", "black", "sleeping", "under bed", False),
        "The black cat is sleeping under the bed.",
        "Le chat noir dort sous le lit.",
        "Die schwarze Katze schläft unter dem Bett.",
    ),
    (
        grammar.animal_place,
        ("bird", "blue", "eating", "next to tree", True),
        "Why is the blue bird eating next to the tree?",
        "Pourquoi est-ce que l'oiseau bleu mange à côté de l'arbre ?",
        "Warum frisst der blaue Vogel neben dem Baum?",
    ),
    (
        grammar.there_is,
        (True, "dog", "big", "in front of church", True),
        "There is a big dog in front of the church.",
        "Il y a un grand chien devant l'église.",
        "Vor der Kirche ist ein großer Hund.",
    ),
    (
        grammar.there_is,
        (False, "apple", "green", "next to bed", False, "five"),
        "There are five green apples next to the bed.",
        "Il y a cinq pommes vertes à côté du lit.",
        "Neben dem Bett sind fünf grüne Äpfel.",
    ),
    (
        grammar.owned,
        ("the boy", "umbrella", "blue", False, "behind door"),
        "The boy's blue umbrella is behind the door.",
        "Le parapluie bleu du garçon est derrière la porte.",
        "Der blaue Regenschirm des Jungen ist hinter der Tür.",
    ),
    (
        grammar.owned,
        ("my aunt", "bag", "white", True),
        "Where is my aunt's white bag?",
        "Où est le sac blanc de ma tante ?",
        "Wo ist die weiße Tasche meiner Tante?",
    ),
    (
        grammar.gift,
        ("my father", "the children", "give", "egg", "brown", False),
        "My father gave the children a brown egg.",
        "Mon père a donné un œuf brun aux enfants.",
        "Mein Vater hat den Kindern ein braunes Ei gegeben.",
    ),
    (
        grammar.gift,
        ("we", "the boy", "show", "house", "old", True, "yesterday"),
        "Yesterday we showed the boy an old house.",
        "Hier, nous avons montré une vieille maison au garçon.",
        "Gestern haben wir dem Jungen ein altes Haus gezeigt.",
    ),
    (
        grammar.journey,
        ("my sister", "to the hospital", "on Monday", False),
        "My sister went to the hospital on Monday.",
        "Ma sœur est allée à l'hôpital lundi.",
        "Meine Schwester ist am Montag zum Krankenhaus gegangen.",
    ),
    (
        grammar.journey,
        ("my parents", "to the library", "last year", True),
        "Last year my parents went to the library.",
        "L'année dernière, mes parents sont allés à la bibliothèque.",
        "Letztes Jahr sind meine Eltern zur Bibliothek gegangen.",
    ),
    (
        grammar.company,
        ("I", "to the beach", True, "dog", "brown"),
        "I am going to the beach with the brown dog.",
        "Je vais à la plage avec le chien brun.",
        "Ich gehe mit dem braunen Hund zum Strand.",
    ),
    (
        grammar.company,
        ("the king", "to the market", False, "my aunt"),
        "The king is going to the market with my aunt.",
        "Le roi va au marché avec ma tante.",
        "Der König geht mit meiner Tante zum Markt.",
    ),
    (
        grammar.habit,
        ("we", "every morning", True, "water", "in the kitchen"),
        "Every morning we drink water in the kitchen.",
        "Chaque matin, nous buvons de l'eau dans la cuisine.",
        "Jeden Morgen trinken wir in der Küche Wasser.",
    ),
    (
        grammar.never,
        ("she", "drinks", "water", "in the evening"),
        "She never drinks water in the evening.",
        "Elle ne boit jamais d'eau le soir.",
        "Sie trinkt abends nie Wasser.",
    ),
    (
        grammar.never,
        ("the children", "buys", "soup"),
        "The children never buy soup at the market.",
        "Les enfants n'achètent jamais de soupe au marché.",
        "Die Kinder kaufen auf dem Markt nie Suppe.",
    ),
    (
        grammar.feeling,
        ("my mother", "happy", "find", "hat", "old"),
        "My mother is happy because she found the old hat.",
        "Ma mère est heureuse parce qu'elle a trouvé le vieux chapeau.",
        "Meine Mutter ist glücklich, weil sie den alten Hut gefunden hat.",
    ),
    (
        grammar.feeling,
        ("my parents", "sad", "lose", "cat", "white"),
        "My parents are sad because they lost the white cat.",
        "Mes parents sont tristes parce qu'ils ont perdu le chat blanc.",
        "Meine Eltern sind traurig, weil sie die weiße Katze verloren haben.",
    ),
    (
        grammar.comparison,
        ("house car boat chair table", "car", "blue", "chair", "green", "older"),
        "The blue car is older than the green chair.",
        "La voiture bleue est plus vieille que la chaise verte.",
        "Das blaue Auto ist älter als der grüne Stuhl.",
    ),
    (
        grammar.weather,
        ("be windy", "Vienna", False, True, "last week"),
        "Last week it was windy in Vienna.",
        "La semaine dernière, il y a eu du vent à Vienne.",
        "Letzte Woche war es in Wien windig.",
    ),
    (
        grammar.weather,
        ("be cold", "London", True, False, "tomorrow evening"),
        "It will be cold in London tomorrow evening.",
        "Il fera froid demain soir à Londres.",
        "Es wird morgen Abend in London kalt sein.",
    ),
    (
        grammar.timetable,
        ("the plane", "Rome", "seven", "on Sunday", True),
        "The plane to Rome leaves on Sunday at seven o'clock.",
        "L'avion pour Rome part dimanche à sept heures.",
        "Das Flugzeug nach Rom fliegt am Sonntag um sieben Uhr ab.",
    ),
    (
        grammar.question,
        ("Anna", "buy", "horse", "small", True, "last year"),
        "Did Anna buy the small horse last year?",
        "Est-ce qu'Anna a acheté le petit cheval l'année dernière ?",
        "Hat Anna letztes Jahr das kleine Pferd gekauft?",
    ),
    (
        grammar.question,
        ("he", "buy", "flower", "red", False, "where"),
        "Where did he buy the red flower?",
        "Où est-ce qu'il a acheté la fleur rouge ?",
        "Wo hat er die rote Blume gekauft?",
    ),
]


@pytest.mark.parametrize(("pattern", "script", "en", "fr", "de"), CHECKED, ids=[case[2] for case in CHECKED])
def test_translations_are_those_a_person_checked(pattern, script, en, fr, de):
    assert pattern(scripted(*script)) == lexicon.Phrase(en, fr, de)


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
            assert text[0].isupper()
            assert text[-1] in ".?"
        assert len({text[-1] for text in row}) == 1


@pytest.mark.parametrize(
    "wrong",
    ["de le ", "de les ", "à le ", "à les ", "le a", "la é", "de é", "que il", "que elle", "je a", "je e", "ne a"],
)
def test_french_contracts_and_elides(pool, wrong):
    for row in pool:
        assert f" {wrong}" not in f" {row.fr.lower()}", row.fr


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
    leak = lexicon.Phrase("Another sentence.", splits.test[0].fr, "Ein anderer Satz.")
    with pytest.raises(AssertionError, match="held-out"):
        corpus.check_disjoint([leak], splits.held_out())


def test_the_seed_decides_the_splits(splits):
    assert corpus.build_splits(seed=3) == splits
    assert corpus.build_splits(seed=4).test != splits.test


def test_files_keep_the_sentences(splits, tmp_path):
    corpus.write_rows(tmp_path / "test.tsv", splits.test)
    assert corpus.read_rows(tmp_path / "test.tsv") == splits.test
