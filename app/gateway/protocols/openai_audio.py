"""How usage of sound is reported: OpenAI's in tokens or seconds (`type`), Mistral's in both (`prompt_audio_seconds`).

Seconds are whole, rounded up, as OpenAI reports them.
"""

import math

from app.billing.usage import LARGEST_COUNT, Usage
from app.gateway.protocols import openai
from app.gateway.protocols.reports import count, is_count, object_of


def read_usage(reported: object, *, is_speech: bool = False) -> Usage | None:
    """None where it holds nothing that can be true. `is_speech`: all output is sound."""
    told = object_of(reported)
    seconds = whole_seconds(told.get("seconds", told.get("prompt_audio_seconds")))
    units = {} if seconds is None else {"second": seconds}
    given, made, total = told.get("input_tokens"), told.get("output_tokens"), told.get("total_tokens")
    if is_count(given) and is_count(made):
        of_input = object_of(told.get("input_token_details") or told.get("input_tokens_details"))
        return Usage(
            input_tokens=given,
            output_tokens=made,
            cache_read_tokens=count(of_input.get("cached_tokens")),
            audio_input_tokens=count(of_input.get("audio_tokens")),
            audio_output_tokens=made if is_speech else 0,
            units=units,
        )
    if (usage := openai.read_usage(told)) is None:
        return Usage(units=units) if units else None
    heard = total - usage.input_tokens - usage.output_tokens if units and is_count(total) else 0
    if heard <= 0:
        return Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, units=units)
    return Usage(input_tokens=usage.input_tokens + heard, output_tokens=usage.output_tokens, audio_input_tokens=heard, units=units)


def whole_seconds(told: object) -> int | None:
    """Of a number, or of a text of one."""
    if isinstance(told, bool) or not isinstance(told, (int, float, str)):
        return None
    try:
        seconds = float(told)
    except ValueError:
        return None
    return math.ceil(seconds) if 0 <= seconds <= LARGEST_COUNT else None
