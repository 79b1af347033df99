"""The tokens of a beam as a chain, on the host."""

from __future__ import annotations

from typing import NamedTuple


class Said(NamedTuple):
    """A beam's last token and what came before it: a beam grows by one link, whatever its length."""

    token: int
    place: float  # its log-probability
    before: Said | None


# None: a beam before its first token.
Chain = Said | None


def tokens_of(chain: Chain) -> list[int]:
    return [said.token for said in _links(chain)]


def places_of(chain: Chain) -> list[float]:
    return [said.place for said in _links(chain)]


def _links(chain: Chain) -> list[Said]:
    found = []
    while chain is not None:
        found.append(chain)
        chain = chain.before
    return found[::-1]
