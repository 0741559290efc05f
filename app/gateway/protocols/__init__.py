"""The protocols that the data plane speaks, by path. A new one is a module and a line in `PROTOCOLS`."""

from app.gateway.protocols import gemini, images, messages, moderations, rerank, responses, speech, transcriptions
from app.gateway.protocols.base import NOTHING_MORE, Asked, CallRequest, Protocol, StreamEvent, TakesForms, model_named_in
from app.gateway.protocols.chat_completions import ChatCompletions
from app.gateway.protocols.completions import Completions
from app.gateway.protocols.embeddings import Embeddings
from app.gateway.protocols.kept import NO_REFERENCES, Kept

PROTOCOLS: tuple[Protocol, ...] = (
    ChatCompletions(),
    Completions(),
    Embeddings(),
    responses.Responses(),
    responses.Compact(),
    responses.InputTokens(),
    messages.Messages(),
    messages.CountTokens(),
    gemini.GenerateContent(),
    gemini.StreamGenerateContent(),
    gemini.CountTokens(),
    gemini.EmbedContent(),
    gemini.BatchEmbedContents(),
    images.ImageGenerations(),
    images.ImageEdits(),
    images.ImageVariations(),
    speech.Speech(),
    transcriptions.Transcriptions(),
    transcriptions.Translations(),
    moderations.Moderations(),
    rerank.Rerank(),
    rerank.RerankV2(),
)

__all__ = [
    "NOTHING_MORE",
    "NO_REFERENCES",
    "PROTOCOLS",
    "Asked",
    "CallRequest",
    "Kept",
    "Protocol",
    "StreamEvent",
    "TakesForms",
    "model_named_in",
]
