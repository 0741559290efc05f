"""Redemption codes: every slip of the finger is told apart from a code that doesn't exist."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.billing.code import ALPHABET, LENGTH, new_code, read_code

places = st.integers(0, LENGTH - 1)


def test_codes_are_random_and_of_the_alphabet() -> None:
    codes = {read_code(new_code()) for _ in range(200)}

    assert len(codes) == 200
    assert {letter for code in codes for letter in code} == set(ALPHABET)
    assert all(new_code().count("-") == 4 for _ in range(3))


@given(places, st.sampled_from(ALPHABET))
def test_one_wrong_character_is_always_found(place: int, letter: str) -> None:
    code = read_code(new_code())
    wrong = code[:place] + letter + code[place + 1 :]

    if wrong == code:
        assert read_code(wrong) == code
    else:
        with pytest.raises(ValueError, match="mistyped"):
            read_code(wrong)


@given(places, places)
def test_two_that_are_swapped_are_always_found(one: int, other: int) -> None:
    code = read_code(new_code())
    letters = list(code)
    letters[one], letters[other] = letters[other], letters[one]

    if "".join(letters) != code:
        with pytest.raises(ValueError, match="mistyped"):
            read_code("".join(letters))


def test_a_code_is_read_as_people_write_it() -> None:
    code = "7K3M-Q9XD-2B4W-HT8E-51ZP"
    plain = code.replace("-", "")

    for written in (plain, code.lower(), f" {code} ", code.replace("1", "l"), code.replace("1", "I"), code.replace("-", "\u2013")):
        assert read_code(written) == plain
    assert read_code("0" * LENGTH) == read_code("oO" * (LENGTH // 2))


@pytest.mark.parametrize(("text", "told"), [("", "has 0"), ("7K3M", "has 4"), ("U" * 20, "no 'U'"), ("7K3M-Q9XD-2B4W-HT8E-51Z!", "no '!'")])
def test_what_is_no_code(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_code(text)
