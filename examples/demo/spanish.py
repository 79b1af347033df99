"""Spanish of the demo's sentences: articles, agreement, contraction, question marks.

Adjectives stand behind the noun, and no noun of the lexicon begins with a stressed a, so that every feminine has `la`.
"""

from __future__ import annotations

import lexicon as lex
from lexicon import Adjective, Noun, Person, Verb

_PLURAL = 2  # of an adjective's forms, the first


def noun_phrase(noun: Noun, adjective: Adjective | None, plural: bool = False) -> str:
    """`coche rojo`, `vacas marrones`."""
    name = noun.es_plural if plural else noun.es
    return f"{name} {adjective.es[(noun.es_gender == 'f') + _PLURAL * plural]}" if adjective else name


def the(noun: Noun, adjective: Adjective | None) -> str:
    """`el coche rojo`."""
    return f"{'el' if noun.es_gender == 'm' else 'la'} {noun_phrase(noun, adjective)}"


def a(noun: Noun, adjective: Adjective) -> str:
    """`un coche rojo`."""
    return f"{'un' if noun.es_gender == 'm' else 'una'} {noun_phrase(noun, adjective)}"


def contracted(preposition: str, phrase: str) -> str:
    """A preposition in front of a noun phrase: `de el` -> `del`, `a el` -> `al`."""
    if phrase.startswith("el ") and preposition.split()[-1] in ("de", "a"):
        return f"{preposition}l {phrase[3:]}"
    return f"{preposition} {phrase}"


def subject(person: Person, verb: str) -> str:
    """Subject and verb; `I` and `we` are in the verb's ending."""
    return f"{person.es} {verb}" if person.es else verb


def asked(verb: str, person: Person) -> str:
    """Verb and subject, in the order of a question."""
    return f"{verb} {person.es}" if person.es else verb


def past(verb: Verb, person: Person) -> str:
    """The simple past."""
    return verb.es_past[person.number]


def future(verb: Verb, person: Person) -> str:
    """The future, of verbs whose infinitive is its stem."""
    return verb.es + lex.ES_FUTURE_ENDINGS[person.number]


def given(verb: Verb, giver: Person, thing: str, receiver: Person) -> str:
    """`mi tío le dio un libro verde a la niña`: the receiver comes twice, as a pronoun too."""
    pronoun = "les" if receiver.plural else "le"
    return f"{subject(giver, f'{pronoun} {past(verb, giver)}')} {thing} {contracted('a', receiver.es)}"


def sentence(text: str, mark: str) -> str:
    """With a capital, and a mark at either end of a question."""
    text = text[0].upper() + text[1:]
    return f"¿{text}?" if mark == "?" else f"{text}{mark}"
