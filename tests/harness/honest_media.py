"""How the honest model makes and hears media, as OpenAI documents it: images, speech, transcriptions, moderations; and rerank.

A model that is called `gpt-...` reports tokens, `whisper...` seconds, and any other nothing.
"""

import base64
import json
import math
from typing import Any

from tests.harness.answers import Answer, sse

_STREAM = {"content-type": "text/event-stream; charset=utf-8"}
IMAGE = base64.b64encode(b"an image " * 20).decode()
SOUND = [b"ID3 some sound", b" and some more\x00\xff", b" and its end"]
IMAGE_USAGE = {
    "total_tokens": 1323,
    "input_tokens": 63,
    "output_tokens": 1260,
    "input_tokens_details": {"text_tokens": 13, "image_tokens": 50},
}
SPEECH_USAGE = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
HEARD_USAGE = {
    "type": "tokens",
    "input_tokens": 40,
    "input_token_details": {"text_tokens": 10, "audio_tokens": 30},
    "output_tokens": 7,
    "total_tokens": 47,
}
TEXT = "some words were said"


def speaks(route: str) -> bool:
    return any(route.endswith(ending) for ending in _SPOKEN)


def reply(route: str, body: bytes) -> Answer:
    speak = next(_SPOKEN[ending] for ending in _SPOKEN if route.endswith(ending))
    return speak(fields(body) if body.startswith(b"--") else json.loads(body))


def fields(body: bytes) -> dict[str, Any]:
    """Of a form: texts, and the bytes of files."""
    boundary = body.partition(b"\r\n")[0]
    found: dict[str, Any] = {}
    for part in body.split(boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode()
        content = content.removesuffix(b"\r\n")
        found[name] = content if b"filename=" in head else content.decode()
    return found


def _images(request: dict[str, Any]) -> Answer:
    is_gpt = request["model"].startswith("gpt-")
    told = {"background": "opaque", "output_format": "png", "quality": "medium", "size": "1024x1536"} if is_gpt else {}
    usage = {"usage": IMAGE_USAGE} if is_gpt else {}
    if str(request.get("stream")).lower() == "true":
        kind = "image_edit" if request.get("image") or request.get("image[]") or request.get("images") else "image_generation"
        made = told | {"b64_json": IMAGE, "created_at": 1}
        events = [{"type": f"{kind}.partial_image", "partial_image_index": 0} | made, {"type": f"{kind}.completed"} | made | usage]
        return Answer(pieces=[b"event: %b\n" % event["type"].encode() + sse(event) for event in events], framing="chunked", headers=_STREAM)
    data = [{"b64_json": IMAGE} if is_gpt else {"url": "https://example.com/1.png"}] * int(request.get("n") or 1)
    return _json({"created": 1} | told | {"data": data} | usage)


def _speech(request: dict[str, Any]) -> Answer:
    if request.get("stream_format") != "sse":
        return Answer(pieces=SOUND, framing="chunked", headers={"content-type": "audio/mpeg"})
    events = [{"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()} for piece in SOUND]
    done = {"type": "speech.audio.done"} | ({"usage": SPEECH_USAGE} if request["model"].startswith("gpt-") else {})
    return Answer(pieces=[*map(sse, events), sse(done)], framing="chunked", headers=_STREAM)


def _hear(request: dict[str, Any]) -> Answer:
    seconds = (len(request["file"]) - 44) / 32_000  # a WAVE file, 16 kHz of 16 bits
    form = request.get("response_format", "json")
    if form in ("text", "srt", "vtt"):
        return Answer(pieces=[f"{TEXT}\n".encode()], headers={"content-type": "text/plain; charset=utf-8"})
    duration = {"type": "duration", "seconds": math.ceil(seconds)}
    usage = HEARD_USAGE if request["model"].startswith("gpt-") else duration if request["model"].startswith("whisper") else None
    told = {"usage": usage} if usage else {}
    if request.get("stream") == "true":
        deltas = [{"type": "transcript.text.delta", "delta": f"{word} "} for word in TEXT.split()]
        done = {"type": "transcript.text.done", "text": TEXT} | told
        return Answer(pieces=[*map(sse, deltas), sse(done)], framing="chunked", headers=_STREAM)
    if form == "verbose_json":
        told |= {"task": "transcribe", "language": "english", "duration": round(seconds, 2), "segments": []}
    return _json({"text": TEXT} | told)


def _moderations(request: dict[str, Any]) -> Answer:
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.01}}
    return _json({"id": "modr-1", "model": request.get("model", "omni-moderation-latest"), "results": [result]})


def _rerank(request: dict[str, Any]) -> Answer:
    results = [{"index": index, "relevance_score": 0.5} for index in range(len(request["documents"]))]
    return _json({"results": results, "usage": {"prompt_tokens": 21, "total_tokens": 21}})


def _json(body: dict[str, Any]) -> Answer:
    return Answer(pieces=[json.dumps(body).encode()])


_SPOKEN = {
    "/images/generations": _images,
    "/images/edits": _images,
    "/images/variations": _images,
    "/audio/speech": _speech,
    "/audio/transcriptions": _hear,
    "/audio/translations": _hear,
    "/moderations": _moderations,
    "/rerank": _rerank,
}
