"""`sparqle plan` foretells what each of several processes takes that train together."""

from __future__ import annotations

import pytest
from alternate import memory_of
from several_processes import make_world, member_of, planned, ready


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 3])
def test_planned_memory_of_a_process_is_within_15_percent_of_what_it_takes(tmp_path, processes):
    ready()
    make_world(tmp_path)
    measured = memory_of(member_of, folder=str(tmp_path), processes=processes)
    assert 0.85 < planned(tmp_path, processes) / measured < 1.15
