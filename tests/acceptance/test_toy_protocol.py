"""A protocol of one file and one line (`tests/harness/toy_protocol.py`) is carried, metered, billed and described as all
others are. `docs/protocols.md` tells how."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.books import charge
from tests.harness.postgres import Database
from tests.harness.proxy import Proxy
from tests.harness.scene import RATES, Scene


@pytest.fixture(scope="module")
def proxy(db: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    made = Proxy(
        database_url=db.url,
        directory=tmp_path_factory.mktemp("toy"),
        module="tests.harness.toy_protocol",
        is_fresh=True,
        PYTHONPATH=str(Path(__file__).parents[2]),
    ).wait_ready()
    yield made
    assert made.stop() == 0


def test_a_whole_answer(scene: Scene) -> None:
    whole = json.dumps({"said": "hello to you", "words": [2, 3]}).encode()
    scene.upstream.answer(body=whole)

    answer = scene.post({"to": scene.model, "say": "hello there"}, "/toy/say")

    assert (answer.status_code, answer.content) == (200, whole)
    assert scene.upstream.requests[0].path == "/v1/toy/say"
    row = scene.row()
    assert (row["api"], row["input_tokens"], row["output_tokens"], row["usage_source"]) == ("toy", 2, 3, "provider")
    assert row["charge"] == charge(RATES, row) > 0


def test_a_stream(scene: Scene) -> None:
    scene.upstream.stream([{"said": "hello"}, {"said": " to you"}, {"words": [2, 3]}])

    answer = scene.post({"to": scene.model, "say": "hello there", "aloud": True}, "/toy/say")

    assert answer.text.count("data:") == 3
    assert (scene.row()["output_tokens"], scene.row()["is_stream"]) == (3, True)


def test_a_stream_that_breaks_is_counted(scene: Scene) -> None:
    scene.upstream.cut([{"said": "hello"}, {"said": " to you"}], after=2)

    answer = scene.post({"to": scene.model, "say": "hello there", "aloud": True}, "/toy/say")

    assert "oops" in answer.text
    assert (scene.row()["usage_source"], scene.row()["output_tokens"]) == ("estimated", 3)


def test_refusals_are_in_its_own_words(scene: Scene) -> None:
    answer = scene.post({"to": "nobody", "say": "hello"}, "/toy/say")

    assert (answer.status_code, list(answer.json())) == (404, ["oops"])


def test_it_is_described(scene: Scene) -> None:
    assert "/toy/say" in scene.http.get("/openapi.json").json()["paths"]
