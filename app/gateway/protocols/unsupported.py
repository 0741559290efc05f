"""What providers offer beside calls and nobody does here: things that they keep, and sessions that aren't HTTP.

Clients that ask for it are told what to do instead. The status is 404, as their SDKs try again after any 5xx.
https://platform.openai.com/docs/api-reference, https://docs.anthropic.com/en/api, https://ai.google.dev/api.
"""

import re

from app.errors import NotFound

_FILES = "Files are not kept here. Send their content in the call itself, as text or base64."
_BATCHES = "Batches are not taken here. Make the calls one by one; many may run at once."
_STORES = "Vector stores are not kept here. Search your documents yourself, and send what you find in the call."
_TUNING = "Fine-tuning is not offered here. Ask your operator to offer a model that was tuned at its provider."
_CONTAINERS = "Containers are not kept here. Run code on your side, as a function tool."
_VIDEOS = "Videos are not made here."
_ASSISTANTS = "Assistants are not offered here. Use `POST /v1/responses`, with a conversation."
_REALTIME = "Realtime sessions are not offered here. Use HTTP: `POST /v1/responses` or `/v1/chat/completions`, with `stream`."
_CACHES = "Caches are not kept here. Send the content with each call; what the provider caches by itself is billed as such."

OPENAI = {
    "files": _FILES,
    "uploads": _FILES,
    "batches": _BATCHES,
    "vector_stores": _STORES,
    "fine_tuning": _TUNING,
    "fine-tunes": _TUNING,
    "assistants": _ASSISTANTS,
    "threads": _ASSISTANTS,
    "containers": _CONTAINERS,
    "skills": _CONTAINERS,
    "evals": "Evaluations are not run here. Make the calls and judge their answers on your side.",
    "videos": _VIDEOS,
    "realtime": _REALTIME,
}
"""What to do instead, by the path's first part after its version."""
_GEMINI = {
    "files": _FILES,
    "batches": _BATCHES,
    "cachedContents": _CACHES,
    "fileSearchStores": _STORES,
    "corpora": _STORES,
    "tunedModels": _TUNING,
}
_GEMINI_ACTIONS = {
    "batchGenerateContent": _BATCHES,
    "asyncBatchEmbedContent": _BATCHES,
    "predictLongRunning": _VIDEOS,
    "bidiGenerateContent": _REALTIME,
}
_ANTHROPIC_BATCHES = re.compile(r"^(?:/v1)*/messages/batches(?:/|$)")
_OPENAI_PATH = re.compile(r"^/(?:v1beta/openai/|openai/v1/|openai/|v1/v1/|v1/)?([^/:]+)")
_GEMINI_PATH = re.compile(r"^(?:/upload)?/v1(?:alpha|beta)?/(?:models/.+:(?P<action>\w+)$|(?P<kept>[^/:]+))")


def not_supported(path: str) -> NotFound | None:
    """None: it is nothing that providers have, as far as is known here."""
    instead = _instead(path)
    return NotFound(instead, code="unsupported") if instead else None


def _instead(path: str) -> str | None:
    if _ANTHROPIC_BATCHES.match(path):
        return _BATCHES
    gemini = _GEMINI_PATH.match(path)
    if gemini and (found := _GEMINI_ACTIONS.get(gemini["action"]) or _GEMINI.get(gemini["kept"])):
        return found
    plain = _OPENAI_PATH.match(path)
    return OPENAI.get(plain[1]) if plain else None
