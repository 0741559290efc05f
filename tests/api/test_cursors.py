"""Cursors come back as they went, and nothing else is taken for one."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UnacceptableValue
from app.paging import LARGEST_KEY, cut, decode, encode

storable = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50)


@given(st.integers(0, LARGEST_KEY))
def test_a_number_comes_back(key: int) -> None:
    assert decode("logs", encode("logs", key), int) == key


@given(storable)
def test_a_text_comes_back(key: str) -> None:
    assert decode("users", encode("users", key), str) == key


@given(st.text())
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(UnacceptableValue, match="no cursor of this listing"):
        decode("logs", text, int)


@pytest.mark.parametrize(
    "content", ['["logs",-1]', '["logs",9223372036854775808]', '["logs",true]', '["logs","1"]', '["keys",1]', '["logs"]', "[" * 5000, "1"]
)
def test_what_was_made_up_is_refused(content: str) -> None:
    with pytest.raises(UnacceptableValue):
        decode("logs", base64.urlsafe_b64encode(content.encode()).decode().rstrip("="), int)


@pytest.mark.parametrize("content", ['["users","a\\u0000b"]', '["users","\\ud800"]', '["users",1]'])
def test_texts_that_no_database_takes_are_refused(content: str) -> None:
    with pytest.raises(UnacceptableValue):
        decode("users", base64.urlsafe_b64encode(content.encode()).decode(), str)


def test_there_is_a_next_page_only_where_there_is_one_row_more() -> None:
    assert cut([3, 2, 1], limit=2, listing="logs", key=lambda row: row).rows == [3, 2]
    assert decode("logs", cut([3, 2, 1], limit=2, listing="logs", key=lambda row: row).next_cursor, int) == 2
    assert cut([3, 2], limit=2, listing="logs", key=lambda row: row).next_cursor is None
    assert cut([], limit=2, listing="logs", key=lambda row: 0).next_cursor is None
