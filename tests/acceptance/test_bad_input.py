"""Whatever is wrong with what a call says, the answer is a 4xx in OpenAI's envelope that says what to do, nothing
reaches the upstream, nothing stays held, and one failed row is left that costs nothing."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.refusals import assert_envelope, assert_one_free_failed_row
from tests.harness.scene import Scene

BODIES = {
    "nothing": b"",
    "cut off": b'{"model": "MODEL", "messages": [',
    "no JSON": b"model=MODEL",
    "not UTF-8": b'{"model": "MODEL", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "two documents": b'{"model": "MODEL"} {"model": "MODEL"}',
    "NaN": b'{"model": "MODEL", "messages": [], "temperature": NaN}',
    "too deep": b'{"model": "MODEL", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too deep where nobody looks": b'{"model": "MODEL", "messages": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a list": b'["MODEL"]',
    "a string": b'"MODEL"',
    "null": b"null",
}


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_is_no_json_object(scene: Scene, what: str) -> None:
    answer = scene.post(content=BODIES[what].replace(b"MODEL", scene.model.encode()))

    assert_envelope(answer, 400)
    scene.assert_nothing_happened()
    assert_one_free_failed_row(scene, 400)


@pytest.mark.parametrize("text", [r"cut \ud83d", r"cut \ud83d, and much more after it", r"\ude00"])
def test_half_a_surrogate_pair_is_told_as_such(scene: Scene, text: str) -> None:
    """It is what a client makes that cuts a text within a character of two."""
    body = f'{{"model": "{scene.model}", "messages": [{{"role": "user", "content": "{text}"}}]}}'
    refused = scene.post(content=body.encode())
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_json")
    assert "surrogate" in refused.json()["error"]["message"]
    cut_off = scene.post(content=body.replace(text, r"\ud83d\ude00").encode()[:-4])
    assert "truncated" in cut_off.json()["error"]["message"], "that a body ends too soon is told from it"


FIELDS: dict[str, dict[str, Any]] = {
    "no model": {"model": ...},
    "model null": {"model": None},
    "model a number": {"model": 7},
    "model a list": {"model": ["m"]},
    "model empty": {"model": ""},
    "no messages": {"messages": ...},
    "messages text": {"messages": "hi"},
    "messages an object": {"messages": {"role": "user"}},
    "messages numbers": {"messages": [1, 2]},
    "stream text": {"stream": "yes"},
    "stream a number": {"stream": 1},
    "stream_options text": {"stream": True, "stream_options": "usage"},
    "max_tokens negative": {"max_tokens": -1},
    "max_tokens text": {"max_tokens": "100"},
    "max_tokens a fraction": {"max_tokens": 1.5},
    "max_tokens true": {"max_tokens": True},
    "max_completion_tokens negative": {"max_completion_tokens": -5},
    "n negative": {"n": -2},
    "n text": {"n": "two"},
}


@pytest.mark.parametrize("what", FIELDS)
def test_a_field_of_the_wrong_kind(scene: Scene, what: str) -> None:
    body = {name: value for name, value in (scene.chat() | FIELDS[what]).items() if value is not ...}

    error = assert_envelope(scene.post(body), 400)

    assert error["param"] in (None, *FIELDS[what]) or error["param"].startswith(tuple(FIELDS[what]))
    assert any(name in error["message"] for name in FIELDS[what])
    scene.assert_nothing_happened()
    assert_one_free_failed_row(scene, 400)


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/v1/completions", {"prompt": 5}), ("/v1/embeddings", {}), ("/v1/embeddings", {"input": {"text": "hi"}})],
)
def test_the_other_protocols_want_their_fields_too(scene: Scene, path: str, fields: dict[str, Any]) -> None:
    assert_envelope(scene.post({"model": scene.model} | fields, path), 400)

    scene.assert_nothing_happened()
    assert_one_free_failed_row(scene, 400)


@pytest.mark.parametrize("model", ["no-such-model", "a" * 3000, "no/such:model", "\x00", "\ud800", "../../etc/passwd"])
def test_an_unknown_model(scene: Scene, model: str) -> None:
    answer = scene.post(content=json.dumps(scene.chat() | {"model": model}))

    assert answer.status_code in (400, 404)
    assert_envelope(answer, answer.status_code, "model_not_found" if answer.status_code == 404 else None)
    scene.assert_nothing_happened()
    assert_one_free_failed_row(scene, answer.status_code)


def test_a_model_without_a_price(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(rates={})

    answer = scene.post(scene.chat())

    assert 400 <= answer.status_code < 500
    error = assert_envelope(answer, answer.status_code)
    assert "price" in error["message"]
    scene.assert_nothing_happened()
    assert_one_free_failed_row(scene, answer.status_code)


def test_no_credit(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(credit="0")

    error = assert_envelope(scene.post(scene.chat()), 402, "insufficient_credit")

    assert any(letter.isdigit() for letter in error["message"])
    scene.assert_nothing_happened()
    assert_one_free_failed_row(scene, 402)


def test_a_model_that_the_key_may_not_use(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(key_fields={"models": ["another-model"]})

    assert_envelope(scene.post(scene.chat()), 403)

    scene.assert_nothing_happened()
    assert_one_free_failed_row(scene, 403)
