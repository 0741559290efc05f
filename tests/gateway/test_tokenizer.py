"""An estimate never fails, never turns into zero, never goes to the network, and is plausible."""

import asyncio
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.gateway.metering.estimate import Tokenizer, rough_count

MODELS = (
    "gpt-4o",
    "gpt-4",
    "openai/gpt-3.5-turbo",
    "openai-community/gpt2",
    "acme/text-davinci-003",
    "p50k_base",
    "",
    "/",
    "\ud800",
    "x/y/z",
)
SENTENCE = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokenizer]:
    """Of a machine that has never counted, and has no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("an estimate went to the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "/nonexistent")
        patch.setattr(tiktoken.registry, "ENCODINGS", {})
        patch.setattr(socket, "getaddrinfo", refuse)
        yield Tokenizer(tmp_path_factory.mktemp("vocabularies") / "made on first use")


def count(tokenizer: Tokenizer, *texts: str, model: str = "gpt-4o") -> int:
    return asyncio.run(tokenizer.count(model, list(texts)))


@pytest.mark.parametrize("model", MODELS, ids=ascii)
def test_any_model_is_counted_with_a_real_vocabulary(tokenizer: Tokenizer, model: str) -> None:
    assert count(tokenizer, SENTENCE, model=model) == 10


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("You said hello there", 4),
        ("hello " * 1000, (1000, 1002)),
        ("\u4f60\u597d\uff0c\u4e16\u754c", (2, 8)),
        ("<|endoftext|>", (3, 10)),
        (" " * 1_000_000, (5000, 20_000)),
        ("\x00" * 10_000, (1, 20_000)),
        ("a" * 1_000_000, (100_000, 200_000)),
        ("\ud800", (1, 4)),
        ("lone \udfff surrogate " * 1000, (1000, 10_000)),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_any_text_is_counted_plausibly(tokenizer: Tokenizer, text: str, tokens: int | tuple[int, int]) -> None:
    least, most = (tokens, tokens) if isinstance(tokens, int) else tokens

    assert least <= count(tokenizer, text) <= most


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.text(), max_size=4), st.sampled_from(MODELS))
def test_no_text_is_counted_for_more_than_its_bytes_or_for_nothing(tokenizer: Tokenizer, texts: list[str], model: str) -> None:
    counted = count(tokenizer, *texts, model=model)
    size = len("".join(texts).encode("utf-8", "surrogatepass"))

    assert min(size, 1) <= counted <= size


def test_texts_in_pieces_count_as_the_text_they_make(tokenizer: Tokenizer) -> None:
    words = [f" {word}" for word in SENTENCE.split()]

    assert count(tokenizer, *words) == count(tokenizer, "".join(words))


@pytest.mark.parametrize("model", ["gpt-4", "gpt-4o"])
def test_where_no_vocabulary_can_be_unpacked_bytes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})

    assert count(Tokenizer(tmp_path / "file" / "below"), SENTENCE, model=model) == 11


def test_a_damaged_vocabulary_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    address = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    (tmp_path / hashlib.sha1(address.encode()).hexdigest()).write_bytes(b"cut short")

    assert count(Tokenizer(tmp_path), SENTENCE) >= 10
    assert asked == []


@pytest.mark.parametrize(("texts", "tokens"), [([], 0), ([""], 0), (["a"], 1), (["abcd"], 1), (["abcde"], 2), (["\ud800"], 1)])
def test_a_rough_count_needs_no_tokenizer(texts: list[str], tokens: int) -> None:
    assert rough_count(texts) == tokens
