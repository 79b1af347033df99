"""Japanese of the demo's sentences: polite forms, particles, counters; written without spaces.

Nouns have no article and no plural, so that `a red car` and `the red car` are one text. Who speaks is the topic (は);
what is said to have been done, seen or given is the object (を).
"""

from __future__ import annotations

from collections.abc import Callable

import lexicon as lex
from lexicon import Adjective, JapaneseVerb, Noun, Person, Phrase, PresentVerb, Verb

WHY = "のですか"  # ends a question for the reason, after a plain form


def noun_phrase(noun: Noun, adjective: Adjective | None) -> str:
    """`赤い車`; the old of an animal is another word than that of a thing."""
    if adjective is None:
        return noun.ja
    living = adjective.ja_of_the_living if noun.living else ""
    return f"{living or adjective.ja}{noun.ja}"


def counted(number: Phrase, noun: Noun, adjective: Adjective, particle: str) -> str:
    """`茶色い牛を五頭`: the number follows the noun and its particle."""
    return f"{noun_phrase(noun, adjective)}{particle}{number.ja}{noun.ja_counter}"


def verb_of(verb: Verb, noun: Noun) -> JapaneseVerb:
    """What is lost out of sight lives; a thing is mislaid."""
    return verb.ja_of_the_living if noun.living and verb.ja_of_the_living else verb.ja


def told(time: str, person: Person, rest: str, front: bool) -> str:
    """Time, topic and the rest; the time stands in front or behind the topic."""
    return f"{time}、{person.ja}は{rest}" if front else f"{person.ja}は{timed(time)}{rest}"


def timed(time: str) -> str:
    """A time in the middle of a sentence: a comma where no particle parts it from what follows."""
    return time if time.endswith("に") else f"{time}、"


def past(verb: JapaneseVerb) -> str:
    return f"{verb.stem}ました"


def _wanted(verb: JapaneseVerb, person: Person) -> str:
    """Others show what they want; who speaks just wants it."""
    return f"{verb.stem}たいです" if person in (lex.I, lex.WE) else f"{verb.stem}たがっています"


_MODALS: dict[str, Callable[[JapaneseVerb, Person], str]] = {
    lex.WANT.en[0]: _wanted,
    lex.MUST.en[0]: lambda verb, _: f"{verb.negative}なければなりません",
    lex.CAN.en[0]: lambda verb, _: f"{verb.plain}ことができます",
}


def with_modal(modal: PresentVerb, verb: Verb, person: Person) -> str:
    """`買わなければなりません`; the modals are endings."""
    return _MODALS[modal.en[0]](verb.ja, person)


def takes(verb: PresentVerb, what: Phrase) -> str:
    """What ます follows; soup is drunk."""
    return lex.DRINK.ja if verb is lex.EAT and what is lex.SOUP else verb.ja


def there(noun: Noun) -> str:
    """`います` of what lives, `あります` of things."""
    return "います" if noun.living else "あります"


def sentence(text: str) -> str:
    """With its full stop, which か of a question takes too."""
    return f"{text}。"
