"""What counts as going round in circles."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sparqle_fairseq.generate.guard import (
    COMPRESSION,
    REPEATED_CHARACTERS,
    compression,
    is_loop,
    longest_repetition,
)

HINDI = (
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और "
    "अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए। प्रत्येक व्यक्ति को जीवन, "
    "स्वाधीनता और वैयक्तिक सुरक्षा का अधिकार है। कोई भी गुलामी या दासता की हालत में न रखा जाएगा, गुलामी-प्रथा और "
    "गुलामों का व्यापार अपने सभी रूपों में निषिद्ध होगा।"
)


@pytest.mark.parametrize(
    "text",
    [
        "thank you " * 4,
        "Il y a " + "un chat, " * 6,
        "He said that " + "na " * 30,
        "人人生而自由" + "谢谢大家" * 8,
        "ok " + "The cat sat on the mat. The dog ran in the park. " * 4,
    ],
)
def test_loops_are_found(text):
    assert is_loop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes.",
        "No, no, no, no, no.",
        "Every day he drinks tea at the hotel, and every day she drinks tea at the station.",
        "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
        HINDI,
    ],
)
def test_people_who_repeat_themselves_are_left_alone(text):
    assert not is_loop(text)


def test_repetition_counts_the_characters_that_are_repeated():
    assert longest_repetition("so abcabcabcabc then") == 12
    assert longest_repetition("so yes yes yes yes") == 17  # with the spaces
    assert longest_repetition("so abcabcabc then, and so on") == 0  # three times


def test_a_script_with_long_bytes_is_not_taken_for_repetition():
    assert compression(HINDI) < 2 < len(HINDI.encode()) / len(HINDI) * compression(HINDI)


@pytest.mark.parametrize(("times", "loops"), [("abcde " * 4, True), ("abcd " * 4, False), ("abcdefgh " * 3, False)])
def test_a_loop_comes_four_times_and_fills_24_characters(times, loops):
    """24 of them, 20, and 27 that come three times."""
    assert is_loop(f"It is so: {times}and no more of this.") == loops


def test_a_loop_with_small_changes_deflates():
    """Nothing is repeated on end, but it says the same again and again; three times is not yet enough."""
    ends = ["mat", "hat", "mat", "bat", "mat", "hat", "bat"] * 3
    again = " ".join(f"the cat sat on the {end}" for end in ends)
    assert longest_repetition(again) == 0
    assert is_loop(again)
    thrice = "the red house and the blue house, " * 3
    assert 2.4 < compression(thrice) < 2.8
    assert not is_loop(thrice)


@given(
    st.text("abc é", max_size=12),
    st.text("abcdé ", min_size=1, max_size=9),
    st.integers(1, 8),
    st.text("abd", max_size=12),
)
@example("", "aaaaaa", 4, "")
@example("", "abcdef", 4, "")
@example("ab ", "abcd ab", 4, "dba")
def test_the_quick_look_before_the_search_overlooks_nothing(before, stretch, times, after):
    text = before + stretch * times + after
    assert is_loop(text) == (longest_repetition(text) >= REPEATED_CHARACTERS or compression(text) > COMPRESSION)
