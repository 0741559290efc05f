"""What the stand-in keeps: responses and conversations that can be asked for by their ids.

upstream.kept.put(response)          is there from now on, as it is
upstream.kept.finish(id, usage=...)  what went on in the background has ended
"""

import json
import re
from typing import Any

from tests.harness import honest_responses
from tests.harness.answers import Answer, Usage

_PATH = re.compile(r"(?:/v1)?/(?:responses|conversations)/([^/]+)(/cancel|/input_items|/items)?")


class Kept:
    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []

    def put(self, made: dict[str, Any]) -> dict[str, Any]:
        self.objects[made["id"]] = made
        return made

    def finish(self, object_id: str, status: str = "completed", *, usage: Usage | None = None, text: str = "All done.") -> None:
        made = self.objects[object_id]
        ended = honest_responses.response(made, status, output=[honest_responses.message(text, id=f"msg_of_{object_id}")], usage=usage)
        if status == "failed":
            ended["error"] = {"code": "server_error", "message": "The model gave up."}
        self.put(made | ended | {"id": object_id, "background": True})

    def answer(self, method: str, path: str) -> Answer | None:
        """None: it isn't asked for by id."""
        if not (found := _PATH.fullmatch(path)) or (method == "POST" and found[2] is None and "conversations" not in path):
            return None
        self.asked.append((method, path))
        made = self.objects.get(found[1])
        if made is None:
            return _json({"error": {"message": f"{found[1]} not found.", "type": "invalid_request_error", "code": None}}, 404)
        if method == "DELETE":
            del self.objects[found[1]]
            return _json({"id": found[1], "object": "response", "deleted": True})
        if found[2] == "/cancel":
            made["status"] = "cancelled"
        elif found[2] is not None:
            return _json(
                {"object": "list", "data": [{"id": "msg_in", "type": "message", "role": "user", "content": []}], "has_more": False}
            )
        return _json(made)


def _json(body: dict[str, Any], status: int = 200) -> Answer:
    return Answer(pieces=[json.dumps(body).encode()], status=status)
