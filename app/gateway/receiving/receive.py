"""Step 2, before it is read: a form comes in, and what is wrong with it ends it at once.

Raises `InvalidRequest`, `BodyTooLarge`, `Unavailable` where there is no room for it, and `ClientGone`.
"""

from app.errors import InvalidRequest
from app.gateway.forms.form import Form, FormParser, boundary_of
from app.gateway.forms.upload import Upload
from app.gateway.receiving.client import Client


def is_form(client: Client) -> bool:
    return _header(client, b"content-type").strip().lower().startswith("multipart/")


async def receive_form(client: Client, upload: Upload, *, largest: int, longest_wait: float) -> Form:
    """`largest`: in bytes; `longest_wait`: seconds between two pieces of it."""
    if _header(client, b"content-encoding").strip().lower() not in ("", "identity"):
        raise InvalidRequest("A form must come as it is, without a Content-Encoding.", code="unsupported_content_encoding")
    boundary = boundary_of(_header(client, b"content-type"))
    parser = FormParser(boundary)
    async for piece in client.body_pieces(largest=largest, longest_wait=longest_wait):
        parser.feed(piece)
        await upload.write(piece)
    await upload.finish()
    return Form(parser.finish(), boundary, upload)


def _header(client: Client, name: bytes) -> str:
    return dict(client.headers).get(name, b"").decode("latin-1")
