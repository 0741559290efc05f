"""What LangChain's user writes, a function each. It runs with releases of its own (`langchain.lock`); see `driver.py`."""

import json
import sys
import traceback
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

Told = dict[str, str]


def weather(city: str, days: int) -> str:
    """The weather of the days to come."""
    return f"rain in {city} for {days} days"


def _chat(told: Told, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model=told["model"], api_key=told["key"], base_url=f"{told['url']}/v1", max_retries=0, timeout=20, **options)


def _invoked(chat: ChatOpenAI) -> dict[str, Any]:
    answer = chat.invoke("how are you")
    return {"text": answer.text, "usage": answer.usage_metadata}


def _streamed(chat: ChatOpenAI) -> dict[str, Any]:
    chunks = list(chat.stream("one two three"))
    whole = sum(chunks[1:], chunks[0])
    return {"texts": [chunk.text for chunk in chunks if chunk.text], "usage": whole.usage_metadata}


def _tool_round(chat: ChatOpenAI) -> dict[str, Any]:
    """The model calls the tool, and answers its result."""
    asked = HumanMessage("what about tomorrow")
    calling = chat.bind_tools([weather]).invoke([asked])
    [call] = calling.tool_calls
    result = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
    return {"name": call["name"], "args": call["args"], "text": chat.invoke([asked, calling, result]).text}


def invoke(told: Told) -> dict[str, Any]:
    return _invoked(_chat(told))


def stream(told: Told) -> dict[str, Any]:
    return _streamed(_chat(told))


def stream_with_usage(told: Told) -> dict[str, Any]:
    return _streamed(_chat(told, stream_usage=True))


def tools(told: Told) -> dict[str, Any]:
    return _tool_round(_chat(told))


def structured(told: Told) -> dict[str, Any]:
    schema = {"title": "Person", "type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    return dict(_chat(told).with_structured_output(schema, method="json_schema", strict=False).invoke("who is it"))


def responses(told: Told) -> dict[str, Any]:
    return _invoked(_chat(told, use_responses_api=True))


def responses_stream(told: Told) -> dict[str, Any]:
    return _streamed(_chat(told, use_responses_api=True))


def responses_tools(told: Told) -> dict[str, Any]:
    return _tool_round(_chat(told, use_responses_api=True))


def embeddings(told: Told) -> list[list[float]]:
    made = OpenAIEmbeddings(
        model=told["model"],
        api_key=told["key"],
        base_url=f"{told['url']}/v1",
        max_retries=0,
        check_embedding_ctx_length=False,  # it would fetch a vocabulary
    )
    return [*made.embed_documents(["red green", "blue"]), made.embed_query("yellow")]


def main() -> None:
    for line in sys.stdin:
        told = json.loads(line)
        try:
            answer = {"result": globals()[told["step"]](told)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
