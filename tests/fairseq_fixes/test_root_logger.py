"""No library prints its debugging lines because fairseq was imported."""

from __future__ import annotations

import logging

import pytest

from sparqle_fairseq.fairseq_fixes.root_logger import hide_debugging_lines


@pytest.mark.parametrize(("asked", "level"), [("", logging.INFO), ("DEBUG", logging.DEBUG)])
def test_debugging_lines_are_for_those_who_ask(monkeypatch, asked, level):
    monkeypatch.setenv("LOGLEVEL", asked)
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.DEBUG)
    assert hide_debugging_lines() == (level == logging.INFO)
    assert root.level == level
