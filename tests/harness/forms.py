"""Forms as clients write them, byte by byte, and sound that they hold."""

import io
import random
import wave
from collections.abc import Iterable

BOUNDARY = "a-boundary-of-the-tests"
FORM = f"multipart/form-data; boundary={BOUNDARY}"

Part = tuple[str, bytes | str]


def part(name: str, content: bytes | str, *, filename: str | None = None, extra: str = "") -> bytes:
    """`extra`: further lines of its head, each with its end."""
    called = f'; filename="{filename}"' if filename is not None else ""
    body = content.encode() if isinstance(content, str) else content
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{called}\r\n{extra}\r\n'.encode() + body + b"\r\n"


def form(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def hearing(model: str, sound: bytes, **fields: str) -> bytes:
    """A transcription's form: the file first, as some clients send it."""
    more = [part(name, value) for name, value in fields.items()]
    return form([part("file", sound, filename="said.wav"), part("model", model), *more])


def sound(seconds: float) -> bytes:
    """A WAVE file of noise, at 32,000 bytes a second."""
    with io.BytesIO() as file:
        with wave.open(file, "wb") as writing:
            writing.setparams((1, 2, 16_000, 0, "NONE", ""))
            writing.writeframes(random.Random(4).randbytes(round(seconds * 16_000) * 2))
        return file.getvalue()
