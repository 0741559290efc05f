"""Requests that come compressed: gzip, deflate and zstd, with a bound on what they unpack to, so that a small body can't
fill the memory."""

import asyncio
import zlib

import zstandard

from app.errors import BodyTooLarge, InvalidRequest

AT_ONCE = 4096
"""Bytes of a compressed body that are unpacked on the event loop; a larger one is unpacked beside it."""
LARGEST_WINDOW = 2**27
_STEP = 1024
MOST_PARTS = 16
"""Members or frames of one body: clients send one. Many empty ones would take long to walk through."""


async def unpack(body: bytes, encoding: str, *, largest: int) -> bytes:
    """Raises `InvalidRequest` for what can't be unpacked, and `BodyTooLarge` as soon as it is more than `largest` bytes."""
    if len(body) > AT_ONCE:
        return await asyncio.to_thread(_unpack, body, encoding, largest)
    return _unpack(body, encoding, largest)


def _unpack(body: bytes, encoding: str, largest: int) -> bytes:
    try:
        if encoding == "zstd":
            return _zstd(body, largest)
        if encoding in ("gzip", "x-gzip", "deflate"):
            return _zlib(body, largest)
    except (zlib.error, zstandard.ZstdError, EOFError):
        raise InvalidRequest(
            f"The request body is not valid {encoding}. Send it whole, or uncompressed.", code="invalid_compression"
        ) from None
    raise InvalidRequest(
        "The request body comes in a Content-Encoding that is not taken here. Use gzip, deflate or zstd, or send it as it is.",
        code="unsupported_content_encoding",
    )


def _zlib(body: bytes, largest: int) -> bytes:
    unpacked = bytearray()
    for _ in range(MOST_PARTS):
        if not body:
            return bytes(unpacked)
        member = zlib.decompressobj(wbits=47)
        unpacked += member.decompress(body, largest + 1 - len(unpacked))
        _check(len(unpacked), largest)
        if not member.eof:
            raise EOFError
        body = member.unused_data
    raise EOFError


def _zstd(body: bytes, largest: int) -> bytes:
    """A step of the packed body unpacks to 32 MB at most: a block of 4 bytes may hold 128 KB (RFC 8878, 3.1.1.2)."""
    unpacked = bytearray()
    packed = memoryview(body)
    for _ in range(MOST_PARTS):
        if not packed:
            return bytes(unpacked)
        frame = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
        while packed and not frame.eof:
            step = packed[:_STEP]
            unpacked += frame.decompress(step)
            packed = packed[len(step) - len(frame.unused_data) :]
            _check(len(unpacked), largest)
        if not frame.eof:
            break
    raise EOFError


def _check(size: int, largest: int) -> None:
    if size > largest:
        raise BodyTooLarge(f"The request body unpacks to more than {largest} bytes, the most that is taken here. Send less.")
