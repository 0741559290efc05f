"""A field that decides what a call costs stands in its request once and in plain letters, or the call is refused."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRequest
from app.gateway.protocols.base import ESCAPED_NAME, names_in
from app.gateway.protocols.chat_completions import ChatCompletions
from app.gateway.protocols.completions import Completions
from app.gateway.protocols.embeddings import Embeddings

MESSAGES = '"messages":[{"role":"user","content":"x"}]'
BODY = '{"model":"m",' + MESSAGES + "%s}"


def refused(body: str) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        ChatCompletions().read(body.encode())
    assert refusal.value.status == 400
    return refusal.value.code


@pytest.mark.parametrize(
    "more",
    [
        ',"model":"dear"',
        ',"model" : "m"',
        ',"max_tokens":1,"max_tokens":9999',
        ',"n":1,"n":9',
        ',"stream":true,"stream":false',
        ',"Model":"dear"',
        ',"MAX_TOKENS":9',
        ',"max_tokens":1,"Max_Tokens":9',
        ',"N":9',
        ',"Stream":true',
        ',"max_Completion_tokens":9',
        r',"\u006dodel":"dear"',
        r',"mode\u006C":"dear"',
        r',"max_tokens":1,"max\u005ftokens":9999',
        r',"n":1,"\u006e":9',
        r',"\u004e":9',
        r',"\u004dax_tokens" : 9',
        ',"messages":[]',
        ',"prediction":"a","prediction":"b"',
        ',"Tools":[{"type":"web_search"}]',
        ',"tools":[{"type":"web_search"}],"tools":[{"type":"function","function":{"name":"f"}}]',
    ],
)
def test_a_decisive_field_that_stands_there_twice_or_in_other_letters(more: str) -> None:
    assert refused(BODY % more) == "ambiguous_field"


@pytest.mark.parametrize("protocol", [Completions(), Embeddings()], ids=lambda protocol: protocol.api)
@pytest.mark.parametrize("more", [',"model":"dear"', r',"\u006dodel":"dear"', ',"MODEL":"dear"'])
def test_the_other_protocols_refuse_as_well(protocol: Completions | Embeddings, more: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        protocol.read(f'{{"model":"m","prompt":"x","input":"x"{more}}}'.encode())
    assert refusal.value.code == "ambiguous_field"


@pytest.mark.parametrize(
    "more",
    [
        ',"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"model":{},"n":{},"max_tokens":{}}}}}]',
        ',"n":2,"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"N":{},"n":{},"Model":{}}}}}]',
        r',"metadata":{"\u006dodel":"x","model":"y","model":"z"}',
        r',"user":"\u006dodel\": ","stop":"\"model\":\"x\",\"n\": 9"',
        ',"user":"model","stop":["n","MODEL","max_tokens"]',
        r',"metadata":{"caf\u00e9":1}',
        ',"max_tokens":1,"max_completion_tokens":1',
    ],
)
def test_such_names_elsewhere_are_no_matter(more: str) -> None:
    assert ChatCompletions().read((BODY % more).encode()).model == "m"


def test_such_words_inside_a_message_are_no_matter() -> None:
    content = json.dumps('{"model":"x","model":"y","N":1,\\u006e":2}')
    body = f'{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}'

    assert not ChatCompletions().read(body.encode()).open_ended


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n"])
@pytest.mark.parametrize("number", ["1e400", "1" * 400, "1" * 5000, "-1", "0", "1e9", "99999999999"])
def test_a_number_beyond_reason_is_refused(name: str, number: str) -> None:
    assert refused(BODY % f',"{name}":{number}') == "invalid_type"


def test_a_huge_number_beside_a_doubt_is_refused_or_passes() -> None:
    with suppress(InvalidRequest):
        ChatCompletions().read((BODY % (',"metadata":{"n":1,"model":2},"seed":' + "1" * 5000)).encode())


odd_names = st.sampled_from(["role", "content", "image_url", "", ":", ",", "\\", '"', '\\"', "\\\\", "a\\", '":', "\n", "\u00e9"])
names = st.one_of(odd_names, st.text(max_size=6))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), names),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=20,
)


def walked(value: Any) -> set[str]:
    if isinstance(value, list):
        return {name for item in value for name in walked(item)}
    if isinstance(value, dict):
        return set(value) | {name for item in value.values() for name in walked(item)}
    return set()


def as_written(name: str, *, ascii_only: bool) -> bytes:
    """Without the escapes of quotes and backslashes."""
    written = json.dumps(name, ensure_ascii=ascii_only)[1:-1]
    return written.replace("\\\\", "").replace('\\"', "").encode()


@given(values, st.booleans(), st.sampled_from([None, 1, "\t"]), st.sampled_from([(",", ":"), (" , ", " :\n"), (",\r\n", "\t: ")]))
def test_the_names_in_any_json_are_those_of_a_walk_through_it(
    value: Any, ascii_only: bool, indent: int | str | None, separators: tuple[str, str]
) -> None:
    try:
        text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, separators=separators).encode()
    except UnicodeEncodeError:
        return

    assert names_in(text) == {as_written(name, ascii_only=ascii_only) for name in walked(value)}


def test_names_that_stand_there_twice_are_all_found() -> None:
    assert names_in(rb'{"a":{"b":1},"a":[{"c":1,"\u0063":"d"}]}') == {b"a", b"b", b"c", rb"\u0063"}


@pytest.mark.timeout(20)
def test_a_text_of_many_escapes_is_looked_at_once() -> None:
    """Where each escape began a search to the end of its text, 2 MB of them took hours."""
    text = "\\u4f60" * 350_000
    body = f'{{"model": "m", "messages": [{{"role": "user", "content": "{text}"}}]}}'.encode()

    assert ChatCompletions().read(body).model == "m"


@pytest.mark.parametrize("name", ["m\\u006fdel", "\\u006d\\u006fdel", "mode\\u006c", "\\u006d\\/odel"])
def test_an_escaped_name_is_seen_wherever_its_escapes_are(name: str) -> None:
    assert ESCAPED_NAME.search(f'{{"{name}" : "m"}}'.encode())
