"""What is said of a hypothesis, on fairseq-generate's I- line and by `sparqle translate`. Needs no torch."""

from __future__ import annotations

from typing import Literal

# Why a hypothesis ended: by itself; at --max-len-a and --max-len-b; at --max-tokens-per-second; for want of room in the
# model (positions of the Q-Former's text, the LLM's context); before a text of --stop.
Ended = Literal["end", "length", "seconds", "room", "stop"]
CUT: tuple[Ended, ...] = ("length", "seconds", "room")  # not by itself, nor where it was told to

REPETITION = "repetition"  # it was searched again because the first one went round in circles
UNHEARD = "unheard"  # it is as likely without the speech
