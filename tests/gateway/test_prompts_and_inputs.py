"""`/v1/completions` and `/v1/embeddings`: how many answers a prompt asks for, and what input is known to be bounded."""

import json
from typing import Any

import pytest

from app.gateway.protocols import CallRequest
from app.gateway.protocols.completions import Completions
from app.gateway.protocols.embeddings import Embeddings


def completion(prompt: Any, **fields: Any) -> CallRequest:
    return Completions().read(json.dumps({"model": "m", "prompt": prompt} | fields).encode())


def embedding(given: Any) -> CallRequest:
    return Embeddings().read(json.dumps({"model": "m", "input": given}).encode())


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a text", 1),
        ("", 1),
        (["a text"], 1),
        (["one", "two", "three"], 3),
        ([1, 2, 3, 4], 1),
        ([[1, 2], [3, 4]], 2),
        ([[1, 2, 3]], 1),
        (["a text", [1, 2], [3]], 3),
        (["a text", 1], 2),
        ([1, True], 2),
        ([None, None], 2),
        ([], 1),
    ],
    ids=str,
)
def test_each_prompt_of_a_list_is_answered_and_tokens_are_one_prompt(prompt: Any, prompts: int) -> None:
    assert completion(prompt).choices == prompts


@pytest.mark.parametrize(
    ("fields", "choices"), [({"n": 3}, 6), ({"best_of": 5}, 10), ({"n": 2, "best_of": 5}, 10), ({"n": 4, "best_of": 1}, 8)]
)
def test_every_prompt_is_answered_as_often_as_was_asked_for(fields: dict[str, int], choices: int) -> None:
    assert completion(["one", "two"], **fields).choices == choices


@pytest.mark.parametrize("prompt", ["a text", ["one", "two"], [1, 2, 3], [[100_000], "mixed"]], ids=str)
def test_the_input_of_a_completion_is_bounded_by_its_bytes(prompt: Any) -> None:
    request = completion(prompt)

    assert (request.input_bound, request.open_ended) == (len(request.body), False)


@pytest.mark.parametrize("given", ["", "a text", ["one", "two"], [1, 2, 3], [[1, 2], [3]], ["mixed", [1]], []], ids=str)
def test_texts_and_tokens_to_embed_are_bounded_by_their_bytes(given: Any) -> None:
    request = embedding(given)

    assert (request.input_bound, request.open_ended, request.has_output) == (len(request.body), False, False)


@pytest.mark.parametrize(
    "given",
    [
        [{"image": "https://example.org/a.png"}],
        [{"text": "a text"}],
        ["a text", {"image": "https://example.org/a.png"}],
        [["https://example.org/a.png"]],
        [[1, "text"]],
        [[[1]]],
        [None],
        [1.5],
        [[{"type": "image_url", "image_url": "https://example.org/a.png"}]],
    ],
    ids=str,
)
def test_anything_else_to_embed_is_open_ended(given: Any) -> None:
    assert embedding(given).open_ended
