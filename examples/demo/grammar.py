"""Sentence patterns of the demo's phrase corpus: each builds an English sentence and its four translations.

The patterns keep to grammar whose every combination is right by construction: agreement, elision and contraction in
French, case, adjective endings and the place of the verb in German; spanish.py and japanese.py say what they need. A
pattern makes its choices through `pick`, so
that the same code serves random sampling and tests that ask for one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import japanese as ja
import lexicon as lex
import spanish as es
from lexicon import Adjective, Noun, Person, Phrase, PresentVerb, Verb

Pick = Callable[[Sequence[Any]], Any]

_FR_VOWELS = "aeiouyhàâéèêëîïôœ"  # every h of the lexicon's nouns and verbs is mute
_EN_VOWELS = "aeiou"

_DE_DEFINITE = {"nom": {"m": "der", "f": "die", "n": "das"}, "acc": {"m": "den", "f": "die", "n": "das"}}
_DE_DEFINITE["dat"] = {"m": "dem", "f": "der", "n": "dem"}
_DE_A = {"nom": {"m": "ein", "f": "eine", "n": "ein"}, "acc": {"m": "einen", "f": "eine", "n": "ein"}}
_DE_WEAK = {
    "nom": {"m": "e", "f": "e", "n": "e"},
    "acc": {"m": "en", "f": "e", "n": "e"},
    "dat": {"m": "en", "f": "en", "n": "en"},
}
_DE_MIXED = {"nom": {"m": "er", "f": "e", "n": "es"}, "acc": {"m": "en", "f": "e", "n": "es"}}


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[0].upper() + text[1:]


def sentence(en: str, fr: str, de: str, spanish: str, japanese: str, mark: str = ".") -> Phrase:
    """A finished sentence; French sets a space before the question mark."""
    return Phrase(
        f"{capital(en)}{mark}",
        f"{capital(fr)}{' ?' if mark == '?' else mark}",
        f"{capital(de)}{mark}",
        es.sentence(spanish, mark),
        ja.sentence(japanese),
    )


def fr_elide(word: str, rest: str) -> str:
    """`le arbre` -> `l'arbre`, `que il` -> `qu'il`; the word ends with the vowel that may fall."""
    return f"{word[:-1]}'{rest}" if rest[0].lower() in _FR_VOWELS else f"{word} {rest}"


def fr_de(phrase: str) -> str:
    """`de` in front of a noun phrase: de le -> du, de les -> des, d' before a vowel."""
    if phrase.startswith("le "):
        return f"du {phrase[3:]}"
    if phrase.startswith("les "):
        return f"des {phrase[4:]}"
    return fr_elide("de", phrase)


def fr_to(phrase: str) -> str:
    """`à` in front of a noun phrase: à le -> au, à les -> aux."""
    if phrase.startswith("le "):
        return f"au {phrase[3:]}"
    if phrase.startswith("les "):
        return f"aux {phrase[4:]}"
    return f"à {phrase}"


def fr_subject(person: Person, verb: str) -> str:
    """Subject and verb, with `j'` before a vowel."""
    return fr_elide("je", verb) if person is lex.I else f"{person.fr} {verb}"


def fr_asked(person: Person, verb: str) -> str:
    """`est-ce que` with subject and verb."""
    return f"est-ce {fr_elide('que', fr_subject(person, verb))}"


def _fr_noun(noun: Noun, adjective: Adjective | None, plural: bool = False) -> str:
    name = noun.fr_plural if plural else noun.fr
    if adjective is None:
        return name
    form = adjective.fr[(noun.fr_gender == "f") + 2 * plural]
    if not adjective.fr_first:
        return f"{name} {form}"
    if adjective.fr_before_vowel and not plural and noun.fr_gender == "m" and name[0] in _FR_VOWELS:
        form = adjective.fr_before_vowel
    return f"{form} {name}"


def the(noun: Noun, adjective: Adjective | None, case: str) -> Phrase:
    """`the (red) car`; `case` is that of German: nom, acc or dat."""
    name = _fr_noun(noun, adjective)
    article = "le" if noun.fr_gender == "m" else "la"
    ending = _DE_WEAK[case][noun.de_gender]
    german = f"{adjective.de}{ending} {noun.de}" if adjective else noun.de
    return Phrase(
        f"the {_en_noun(noun, adjective)}",
        fr_elide(article, name),
        f"{_DE_DEFINITE[case][noun.de_gender]} {german}",
        es.the(noun, adjective),
        ja.noun_phrase(noun, adjective),
    )


def a(noun: Noun, adjective: Adjective, case: str) -> Phrase:
    """`a red car`."""
    english = _en_noun(noun, adjective)
    return Phrase(
        f"{'an' if english[0] in _EN_VOWELS else 'a'} {english}",
        f"{'un' if noun.fr_gender == 'm' else 'une'} {_fr_noun(noun, adjective)}",
        f"{_DE_A[case][noun.de_gender]} {adjective.de}{_DE_MIXED[case][noun.de_gender]} {noun.de}",
        es.a(noun, adjective),
        ja.noun_phrase(noun, adjective),
    )


def several(number: Phrase, noun: Noun, adjective: Adjective, particle: str) -> Phrase:
    """`two red cars` (German nominative and accusative are alike); `particle` is that of Japanese, を or が."""
    return Phrase(
        f"{number.en} {adjective.en} {noun.en_plural}",
        f"{number.fr} {_fr_noun(noun, adjective, plural=True)}",
        f"{number.de} {adjective.de}e {noun.de_plural}",
        f"{number.es} {es.noun_phrase(noun, adjective, plural=True)}",
        ja.counted(number, noun, adjective, particle),
    )


def spot(preposition: Phrase, noun: Noun) -> Phrase:
    """`under the table`."""
    place = the(noun, None, "dat")
    french = f"à côté {fr_de(place.fr)}" if preposition is lex.NEXT_TO else f"{preposition.fr} {place.fr}"
    return Phrase(
        f"{preposition.en} {place.en}",
        french,
        f"{preposition.de} {place.de}",
        es.contracted(preposition.es, place.es),
        f"{place.ja}の{preposition.ja}",
    )


def _en_noun(noun: Noun, adjective: Adjective | None) -> str:
    return f"{adjective.en} {noun.en}" if adjective else noun.en


def _object(pick: Pick, nouns: Sequence[Noun], case: str = "acc") -> Phrase:
    noun = pick(nouns)
    adjective = pick(noun.adjectives)
    return the(noun, adjective, case) if pick((True, False)) else a(noun, adjective, case)


def _coloured(pick: Pick, nouns: Sequence[Noun], case: str) -> tuple[Noun, Phrase]:
    noun = pick(nouns)
    adjective = pick([word for word in noun.adjectives if word in lex.COLOURS])
    return noun, the(noun, adjective, case)


def _present(verb: PresentVerb, person: Person) -> Phrase:
    index = person.number
    return Phrase(verb.en[index], verb.fr[index], verb.de[index], verb.es[index], verb.ja)


def past_event(pick: Pick) -> Phrase:
    """Yesterday my sister bought a red hat. / My sister bought a red hat yesterday."""
    person, verb = pick(lex.SUBJECTS), pick(lex.EVENT_VERBS)
    thing, time = _object(pick, verb.objects), pick(lex.PAST_TIMES)
    have = _present(lex.HAVE, person)
    french = f"{fr_subject(person, have.fr)} {verb.fr_participle} {thing.fr}"
    english = f"{person.en} {verb.en_past} {thing.en}"
    spanish = f"{es.subject(person, es.past(verb, person))} {thing.es}"
    japanese = f"{thing.ja}を{ja.past(verb.ja)}"
    if pick((True, False)):
        return sentence(
            f"{time.en} {english}",
            f"{time.fr}, {french}",
            f"{time.de} {have.de} {person.de} {thing.de} {verb.de_participle}",
            f"{time.es} {spanish}",
            ja.told(time.ja, person, japanese, front=True),
        )
    return sentence(
        f"{english} {time.en}",
        f"{french} {time.fr}",
        f"{person.de} {have.de} {time.de} {thing.de} {verb.de_participle}",
        f"{spanish} {time.es}",
        ja.told(time.ja, person, japanese, front=False),
    )


def future_event(pick: Pick) -> Phrase:
    """My aunt will sell the old boat next week."""
    person, verb = pick(lex.SUBJECTS), pick(lex.EVENT_VERBS)
    thing, time = _object(pick, verb.objects), pick(lex.FUTURE_TIMES)
    french = fr_subject(person, verb.fr_future + lex.FR_FUTURE_ENDINGS[person.number])
    german = lex.DE_FUTURE[person.number]
    english = f"{person.en} will {verb.en} {thing.en}"
    spanish = f"{es.subject(person, es.future(verb, person))} {thing.es}"
    japanese = f"{thing.ja}を{verb.ja.stem}ます"
    if pick((True, False)):
        return sentence(
            f"{time.en} {english}",
            f"{time.fr}, {french} {thing.fr}",
            f"{time.de} {german} {person.de} {thing.de} {verb.de}",
            f"{time.es} {spanish}",
            ja.told(time.ja, person, japanese, front=True),
        )
    return sentence(
        f"{english} {time.en}",
        f"{french} {thing.fr} {time.fr}",
        f"{person.de} {german} {time.de} {thing.de} {verb.de}",
        f"{spanish} {time.es}",
        ja.told(time.ja, person, japanese, front=False),
    )


def wish(pick: Pick) -> Phrase:
    """The boy wants to find the small key. / We must clean the white table."""
    person, verb = pick(lex.SUBJECTS), pick(lex.EVENT_VERBS)
    kind = pick(lex.MODALS)
    modal, thing = _present(kind, person), _object(pick, verb.objects)
    return sentence(
        f"{person.en} {modal.en} {verb.en} {thing.en}",
        f"{fr_subject(person, modal.fr)} {verb.fr} {thing.fr}",
        f"{person.de} {modal.de} {thing.de} {verb.de}",
        f"{es.subject(person, modal.es)} {verb.es} {thing.es}",
        f"{person.ja}は{thing.ja}を{ja.with_modal(kind, verb, person)}",
    )


def sighting(pick: Pick) -> Phrase:
    """The girl saw three white ducks in the park."""
    person, verb = pick(lex.SUBJECTS), pick((lex.SEE, lex.FIND, lex.LOSE))
    noun, have = pick(verb.objects if verb is not lex.SEE else lex.ANIMALS), _present(lex.HAVE, person)
    adjective, scene = pick(noun.adjectives), pick(lex.SCENES)
    many = pick((True, False))
    thing = several(pick(lex.NUMBERS), noun, adjective, "を") if many else a(noun, adjective, "acc")
    return sentence(
        f"{person.en} {verb.en_past} {thing.en} {scene.en}",
        f"{fr_subject(person, have.fr)} {verb.fr_participle} {thing.fr} {scene.fr}",
        f"{person.de} {have.de} {scene.de} {thing.de} {verb.de_participle}",
        f"{es.subject(person, es.past(verb, person))} {thing.es} {scene.es}",
        f"{person.ja}は{scene.ja}{thing.ja}{'' if many else 'を'}{ja.past(ja.verb_of(verb, noun))}",
    )


def possession(pick: Pick) -> Phrase:
    """My uncle has five brown cows behind the house."""
    person = pick(lex.SUBJECTS)
    have = _present(lex.HAVE, person)
    outside = pick((True, False))
    noun = pick(lex.ANIMALS if outside else lex.COUNTED_THINGS)
    things = several(pick(lex.NUMBERS), noun, pick(noun.adjectives), "を")
    place = spot(*pick(lex.SPOTS_OUTSIDE[:6] if outside else lex.SPOTS_INSIDE))
    return sentence(
        f"{person.en} {have.en} {things.en} {place.en}",
        f"{fr_subject(person, have.fr)} {things.fr} {place.fr}",
        f"{person.de} {have.de} {place.de} {things.de}",
        f"{es.subject(person, have.es)} {things.es} {place.es}",
        f"{person.ja}は{place.ja}{'で' if outside else 'に'}{things.ja}{'飼って' if outside else '置いて'}います",
    )


def animal_place(pick: Pick) -> Phrase:
    """The black cat is sleeping under the table. / Why is the black cat sleeping under the table?"""
    noun = pick(lex.ANIMALS)
    beast = the(noun, pick(noun.adjectives), "nom")
    doing = pick(lex.DOINGS)
    place = spot(*pick((*lex.SPOTS_INSIDE, *lex.SPOTS_OUTSIDE) if noun in lex.PETS else lex.SPOTS_OUTSIDE))
    if pick((False, False, True)):
        return sentence(
            f"why is {beast.en} {doing.en} {place.en}",
            f"pourquoi est-ce que {beast.fr} {doing.fr} {place.fr}",
            f"warum {doing.de} {beast.de} {place.de}",
            f"por qué está {doing.es} {beast.es} {place.es}",
            f"{beast.ja}はなぜ{place.ja}で{doing.ja}る{ja.WHY}",
            "?",
        )
    return sentence(
        f"{beast.en} is {doing.en} {place.en}",
        f"{beast.fr} {doing.fr} {place.fr}",
        f"{beast.de} {doing.de} {place.de}",
        f"{beast.es} está {doing.es} {place.es}",
        f"{beast.ja}は{place.ja}で{doing.ja}ます",
    )


def there_is(pick: Pick) -> Phrase:
    """There is a green umbrella behind the door. / There are two brown horses in front of the church."""
    outside = pick((True, False))
    noun = pick(lex.ANIMALS if outside else lex.COUNTED_THINGS)
    adjective, place = pick(noun.adjectives), spot(*pick(lex.SPOTS_OUTSIDE if outside else lex.SPOTS_INSIDE))
    if pick((True, False)):
        thing = a(noun, adjective, "nom")
        return sentence(
            f"there is {thing.en} {place.en}",
            f"il y a {thing.fr} {place.fr}",
            f"{place.de} ist {thing.de}",
            f"hay {thing.es} {place.es}",
            f"{place.ja}に{thing.ja}が{ja.there(noun)}",
        )
    things = several(pick(lex.NUMBERS), noun, adjective, "が")
    return sentence(
        f"there are {things.en} {place.en}",
        f"il y a {things.fr} {place.fr}",
        f"{place.de} sind {things.de}",
        f"hay {things.es} {place.es}",
        f"{place.ja}に{things.ja}{ja.there(noun)}",
    )


def owned(pick: Pick) -> Phrase:
    """My sister's blue bag is on the chair. / Where is my sister's blue bag this morning?"""
    owner, noun = pick(lex.OWNERS), pick(lex.OWN_THINGS)
    thing = the(noun, pick(noun.adjectives), "nom")
    english = f"{owner.en}'s {thing.en.removeprefix('the ')}"
    french, german = f"{thing.fr} {fr_de(owner.fr)}", f"{thing.de} {owner.de_genitive}"
    spanish, japanese = f"{thing.es} {es.contracted('de', owner.es)}", f"{owner.ja}の{thing.ja}"
    if pick((True, False, False, False)):
        return sentence(
            f"where is {english}",
            f"où est {french}",
            f"wo ist {german}",
            f"dónde está {spanish}",
            f"{japanese}はどこにありますか",
            "?",
        )
    place = spot(*pick(lex.SPOTS_INSIDE))
    return sentence(
        f"{english} is {place.en}",
        f"{french} est {place.fr}",
        f"{german} ist {place.de}",
        f"{spanish} está {place.es}",
        f"{japanese}は{place.ja}にあります",
    )


def gift(pick: Pick) -> Phrase:
    """My uncle gave the girl a green book. / Yesterday my uncle gave the girl a green book."""
    person = pick(lex.SUBJECTS)
    receiver = pick([other for other in lex.NAMED if other is not person])
    verb: Verb = pick(lex.GIVING_VERBS)
    noun, have = pick(verb.objects), _present(lex.HAVE, person)
    thing = a(noun, pick(noun.adjectives), "acc")
    english = f"{person.en} {verb.en_past} {receiver.en} {thing.en}"
    french = f"{fr_subject(person, have.fr)} {verb.fr_participle} {thing.fr} {fr_to(receiver.fr)}"
    german = f"{receiver.de_dative} {thing.de} {verb.de_participle}"
    spanish, japanese = es.given(verb, person, thing.es, receiver), f"{receiver.ja}に{thing.ja}を{ja.past(verb.ja)}"
    if pick((True, False)):
        time = pick(lex.PAST_TIMES[:3])
        return sentence(
            f"{time.en} {english}",
            f"{time.fr}, {french}",
            f"{time.de} {have.de} {person.de} {german}",
            f"{time.es} {spanish}",
            ja.told(time.ja, person, japanese, front=True),
        )
    return sentence(english, french, f"{person.de} {have.de} {german}", spanish, f"{person.ja}は{japanese}")


def journey(pick: Pick) -> Phrase:
    """Anna went to the station this morning. (French needs the gender, so neither I nor we.)"""
    person, goal, time = pick(lex.THIRD), pick(lex.GOALS), pick(lex.PAST_TIMES)
    be = _present(lex.BE, person)
    participle = "allé" + ("e" if person.feminine else "") + ("s" if person.plural else "")
    french = f"{person.fr} {be.fr} {participle} {goal.fr}"
    spanish, japanese = f"{person.es} {lex.ES_WENT[person.number]} {goal.es}", f"{goal.ja}行きました"
    if pick((True, False)):
        return sentence(
            f"{time.en} {person.en} went {goal.en}",
            f"{time.fr}, {french}",
            f"{time.de} {be.de} {person.de} {goal.de} gegangen",
            f"{time.es} {spanish}",
            ja.told(time.ja, person, japanese, front=True),
        )
    return sentence(
        f"{person.en} went {goal.en} {time.en}",
        f"{french} {time.fr}",
        f"{person.de} {be.de} {time.de} {goal.de} gegangen",
        f"{spanish} {time.es}",
        ja.told(time.ja, person, japanese, front=False),
    )


def company(pick: Pick) -> Phrase:
    """We are going to the beach with the brown dog. / I am going to the market with my aunt."""
    person, goal = pick(lex.SUBJECTS), pick(lex.GOALS)
    if pick((True, False)):
        noun = pick((lex.DOG, lex.HORSE, lex.CAT))
        friend = the(noun, pick(noun.adjectives), "dat")
    else:
        other = pick([other for other in lex.NAMED if other is not person])
        friend = Phrase(other.en, other.fr, other.de_dative, other.es, other.ja)
    go = _present(lex.GO, person)
    return sentence(
        f"{person.en} {go.en} going {goal.en} with {friend.en}",
        f"{fr_subject(person, go.fr)} {goal.fr} avec {friend.fr}",
        f"{person.de} {go.de} mit {friend.de} {goal.de}",
        f"{es.subject(person, go.es)} {goal.es} con {friend.es}",
        f"{person.ja}は{friend.ja}と一緒に{goal.ja}{go.ja}ます",
    )


def habit(pick: Pick) -> Phrase:
    """Every morning we drink coffee in the kitchen."""
    person, time = pick(lex.SUBJECTS), pick(lex.HABIT_TIMES)
    drinks = pick((True, False))
    kind = lex.DRINK if drinks else lex.EAT
    verb, what = _present(kind, person), pick(lex.DRINKS if drinks else lex.FOODS)
    place = pick(lex.ROOMS)
    english = f"{person.en} {verb.en} {what.en} {place.en}"
    french = f"{fr_subject(person, verb.fr)} {what.fr} {place.fr}"
    return sentence(
        f"{time.en} {english}",
        f"{time.fr}, {french}",
        f"{time.de} {verb.de} {person.de} {place.de} {what.de}",
        f"{time.es} {es.subject(person, verb.es)} {what.es} {place.es}",
        ja.told(time.ja, person, f"{place.ja}{what.ja}を{ja.takes(kind, what)}ます", front=True),
    )


def never(pick: Pick) -> Phrase:
    """My father never drinks milk in the evening. / My father never buys bread at the market."""
    person = pick(lex.SUBJECTS)
    kind = pick((lex.DRINK, lex.EAT, lex.BUY_NOW))
    verb = _present(kind, person)
    what = pick(lex.DRINKS if kind is lex.DRINK else lex.FOODS)
    noun = what.fr.removeprefix("du ").removeprefix("de la ").removeprefix("de l'")
    negated = f"{fr_elide('ne', verb.fr)} jamais {fr_de(noun)}"
    english = f"{person.en} never {verb.en} {what.en}"
    spanish = f"{es.subject(person, f'nunca {verb.es}')} {what.es}"
    japanese = f"決して{what.ja}を{ja.takes(kind, what)}ません"
    if kind is lex.BUY_NOW:
        place = lex.MARKET
        return sentence(
            f"{english} {place.en}",
            f"{person.fr} {negated} {place.fr}",
            f"{person.de} {verb.de} {place.de} nie {what.de}",
            f"{spanish} {place.es}",
            f"{person.ja}は{place.ja}{japanese}",
        )
    time = pick(lex.DAY_PARTS)
    return sentence(
        f"{english} {time.en}",
        f"{person.fr} {negated} {time.fr}",
        f"{person.de} {verb.de} {time.de} nie {what.de}",
        f"{spanish} {time.es}",
        ja.told(time.ja, person, japanese, front=False),
    )


def feeling(pick: Pick) -> Phrase:
    """My brother is sad because he lost the blue key."""
    person, mood = pick(lex.REFERABLE), pick(lex.FEELINGS)
    verb = pick(mood.verbs)
    noun, he = pick(verb.objects), person.pronoun
    thing = the(noun, pick(noun.adjectives), "acc")
    be, have = _present(lex.BE, person), _present(lex.HAVE, person)
    form = 2 if person.plural else int(person.feminine)
    return sentence(
        f"{person.en} {be.en} {mood.en} because {he.en} {verb.en_past} {thing.en}",
        f"{person.fr} {be.fr} {mood.fr[form]} parce {fr_elide('que', he.fr)} {have.fr} {verb.fr_participle} {thing.fr}",
        f"{person.de} {be.de} {mood.de}, weil {he.de} {thing.de} {verb.de_participle} {have.de}",
        f"{person.es} {be.es} {mood.es[form]} porque {es.past(verb, person)} {thing.es}",
        f"{person.ja}は{thing.ja}を{ja.verb_of(verb, noun).plain_past}ので、{mood.ja}",
    )


def comparison(pick: Pick) -> Phrase:
    """The blue car is bigger than the white house."""
    nouns = pick((lex.LARGE_THINGS, lex.ANIMALS, lex.OWN_THINGS))
    first, one = _coloured(pick, nouns, "nom")
    _, other = _coloured(pick, [noun for noun in nouns if noun is not first], "nom")
    more = pick(lex.COMPARATIVES)
    return sentence(
        f"{one.en} is {more.en} than {other.en}",
        f"{one.fr} est {more.fr[first.fr_gender == 'f']} que {other.fr}",
        f"{one.de} ist {more.de} als {other.de}",
        f"{one.es} es {more.es[first.es_gender == 'f']} que {other.es}",
        f"{one.ja}は{other.ja}より{more.ja[first.living]}",
    )


def weather(pick: Pick) -> Phrase:
    """Tomorrow it will rain in Berlin. / It was cold in Paris yesterday."""
    kind, city = pick(lex.WEATHERS), pick(lex.CITIES)
    future, front = pick((True, False)), pick((True, False))
    time = pick(lex.FUTURE_TIMES if future else lex.PAST_TIMES)
    english = f"it {'will ' + kind.en_future if future else kind.en_past} in {city.en}"
    french = kind.fr_future if future else kind.fr_past
    verb, end = ("wird", kind.de_infinitive) if future else kind.de_past
    spanish = kind.es_future if future else kind.es_past
    place, japanese = f"{city.ja}{kind.ja_place}", kind.ja_future if future else kind.ja_past
    if front:
        return sentence(
            f"{time.en} {english}",
            f"{time.fr}, {french} à {city.fr}",
            f"{time.de} {verb} es in {city.de} {end}",
            f"{time.es} {spanish} en {city.es}",
            f"{time.ja}、{place}{japanese}",
        )
    return sentence(
        f"{english} {time.en}",
        f"{french} {time.fr} à {city.fr}",
        f"es {verb} {time.de} in {city.de} {end}",
        f"{spanish} en {city.es} {time.es}",
        f"{place}{ja.timed(time.ja)}{japanese}",
    )


def timetable(pick: Pick) -> Phrase:
    """The train to Paris leaves on Monday at seven o'clock. / The plane from Rome arrives tomorrow at two o'clock."""
    (vehicle, de_leaves), city, hour = pick(lex.VEHICLES), pick(lex.CITIES), pick(lex.NUMBERS)
    time = pick((lex.FUTURE_TIMES[0], *lex.WEEKDAYS))
    french, german = f"{time.fr} à {hour.fr} heures", f"{time.de} um {hour.de} Uhr"
    english = f"{time.en} at {hour.en} o'clock"
    spanish, japanese = f"{time.es} a las {hour.es}", f"{time.ja.removesuffix('に')}の{hour.ja}時に"
    if pick((True, False)):
        return sentence(
            f"{vehicle.en} to {city.en} leaves {english}",
            f"{vehicle.fr} pour {city.fr} part {french}",
            f"{vehicle.de} nach {city.de} {de_leaves} {german} ab",
            f"{vehicle.es} a {city.es} sale {spanish}",
            f"{city.ja}行きの{vehicle.ja}は{japanese}出発します",
        )
    return sentence(
        f"{vehicle.en} from {city.en} arrives {english}",
        f"{vehicle.fr} {fr_de(city.fr)} arrive {french}",
        f"{vehicle.de} aus {city.de} kommt {german} an",
        f"{vehicle.es} de {city.es} llega {spanish}",
        f"{city.ja}からの{vehicle.ja}は{japanese}到着します",
    )


def question(pick: Pick) -> Phrase:
    """Did the girl find the red key yesterday? / Where did my aunt buy the red hat?"""
    person = pick(lex.THIRD)
    verb = pick((lex.BUY, lex.SELL, lex.FIND))
    noun, have = pick(verb.objects), _present(lex.HAVE, person)
    thing = the(noun, pick(noun.adjectives), "acc")
    french = f"{fr_asked(person, have.fr)} {verb.fr_participle} {thing.fr}"
    spanish = f"{es.asked(es.past(verb, person), person)} {thing.es}"
    if pick((True, False)):
        time = pick(lex.PAST_TIMES[:5])
        return sentence(
            f"did {person.en} {verb.en} {thing.en} {time.en}",
            f"{french} {time.fr}",
            f"{have.de} {person.de} {time.de} {thing.de} {verb.de_participle}",
            f"{spanish} {time.es}",
            ja.told(time.ja, person, f"{thing.ja}を{ja.past(verb.ja)}か", front=False),
            "?",
        )
    word = pick(lex.ASKING)
    japanese = f"{verb.ja.plain_past}{ja.WHY}" if word is lex.WHY else f"{ja.past(verb.ja)}か"
    return sentence(
        f"{word.en} did {person.en} {verb.en} {thing.en}",
        f"{word.fr} {french}",
        f"{word.de} {have.de} {person.de} {thing.de} {verb.de_participle}",
        f"{word.es} {spanish}",
        f"{person.ja}は{word.ja}{thing.ja}を{japanese}",
        "?",
    )


PATTERNS: tuple[Callable[[Pick], Phrase], ...] = (
    past_event,
    future_event,
    wish,
    sighting,
    possession,
    animal_place,
    there_is,
    owned,
    gift,
    journey,
    company,
    habit,
    never,
    feeling,
    comparison,
    weather,
    timetable,
    question,
)
