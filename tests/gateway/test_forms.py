"""A form is read the same however it is cut, its parts lie where they are said to, and one that two parsers could read in
two ways is refused."""

import asyncio
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequest, Unavailable
from app.gateway.forms.form import LARGEST_FIELD, MOST_PARTS, Form, FormBody, FormParser, boundary_of
from app.gateway.forms.sound import USUAL, length_of
from app.gateway.forms.upload import IN_MEMORY, Upload, UploadSpace
from tests.harness.forms import BOUNDARY, FORM, form, part

PLAIN = form([part("file", b"RIFF\r\n--a-bound\r\n\x00\xff", filename="a.wav"), part("model", "m"), part("prompt", "zwölf Boxkämpfer")])
tricky = st.sampled_from([b"\r\n", b"--", b"\r\n--", b"\r\n--" + BOUNDARY.encode()[:-1], BOUNDARY.encode(), b"\r", b"\n", b"-", b"x", b""])
lines = re.compile(f"[\r\n]--{BOUNDARY}".encode())
contents = st.lists(tricky, max_size=8).map(b"".join).filter(lambda content: not lines.search(b"\r\n" + content))


def cut(body: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(body) + 1) for place in at}), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def parsed(body: bytes, at: list[int] | None = None, boundary: str = BOUNDARY) -> tuple[Any, ...]:
    parser = FormParser(boundary.encode())
    for piece in cut(body, at or []):
        parser.feed(piece)
    return parser.finish()


def refused(body: bytes, boundary: str = BOUNDARY, *, at: list[int] | None = None) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        parsed(body, at, boundary)
    return str(refusal.value)


@settings(max_examples=150)
@given(st.lists(contents, min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=30))
def test_however_it_is_cut_each_part_lies_where_it_is_said_to(files: list[bytes], at: list[int]) -> None:
    body = form(part(f"f{index}", content, filename="x") for index, content in enumerate(files))

    found = parsed(body, at)

    assert [body[one.start : one.start + one.size] if one.size else b"" for one in found] == files


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(PLAIN)])
def test_fields_are_read_and_files_are_not(size: int) -> None:
    found = parsed(PLAIN, list(range(0, len(PLAIN), size)))

    assert [(one.name, one.text) for one in found] == [("file", None), ("model", "m"), ("prompt", "zwölf Boxkämpfer")]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "ends before"),
        (PLAIN[:-8], "ends before"),
        (PLAIN[: len(PLAIN) // 2], "ends before"),
        (b"{}", "begin with its boundary"),
        (b"\r\n" + PLAIN, "begin with its boundary"),
        (b"hello\r\n" + PLAIN, "begin with its boundary"),
        (PLAIN + part("model", "dear"), "follows its end"),
        (PLAIN + PLAIN, "follows its end"),
        (form([]), "no parts"),
        (form([part("a", "b", extra='Content-Disposition: form-data; name="model"\r\n')]), "twice"),
        (form([part("a", "b", extra="Content-Transfer-Encoding: base64\r\n")]), "Content-Transfer-Encoding"),
        (form([part('a"; name="model', "b")]), "one `name`"),
        (form([part("a\"; name*=utf-8''model; x=\"", "b")]), "one `name`"),
        (PLAIN.replace(b"form-data; ", b"attachment; "), "form-data"),
        (PLAIN.replace(b'; name="model"', b""), "one `name`"),
        (PLAIN.replace(b"Content-Disposition", b"Content Disposition"), "invalid character"),
        (PLAIN.replace(b'name="model"', b'name="' + b"m" * 10_000 + b'"'), "Maximum header size"),
        (form([part("a", "b", extra="".join(f"X{index}: y\r\n" for index in range(20)))]), "Maximum header count"),
        (form([part("prompt", b"\xff\xfe")]), "UTF-8"),
        (form([part("file", b"x\n" + part("model", "dear"), filename="x"), part("model", "m")]), "begins with the boundary"),
        (form([part("file", b"x\r" + part("model", "dear"), filename="x"), part("model", "m")]), "begins with the boundary"),
        (form([part('a"; name*0=mo; name*1=del; x="', "dear")]), "one `name`"),
        (form([part("mo\\del", "dear")]), "backslash"),
    ],
)
def test_what_is_no_form_is_refused_with_what_is_wrong(body: bytes, why: str) -> None:
    assert why in refused(body)
    assert why in refused(body, at=list(range(0, len(body), 5)))


def test_parts_and_fields_have_an_end() -> None:
    assert str(MOST_PARTS) in refused(form(part("a", "b") for _ in range(10_000)))
    assert "too large" in refused(form([part("prompt", "x" * (LARGEST_FIELD + 1))]))
    assert "too large" in refused(form(part(f"f{index}", "x" * LARGEST_FIELD) for index in range(5)))


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (FORM, BOUNDARY),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b:c"', "a b:c"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=" + "x" * 71, None),
        ("multipart/form-data; boundary=a; boundary=b", None),
        ("multipart/form-data; boundary=a; Boundary=b", None),
        ("multipart/form-data; boundary=a; boundary*0=b", None),
        ("multipart/mixed; boundary=a", None),
    ],
)
def test_the_boundary_is_told_once(content_type: str, boundary: str | None) -> None:
    if boundary is not None:
        assert boundary_of(content_type) == boundary.encode()
        return
    with pytest.raises(InvalidRequest):
        boundary_of(content_type)


@pytest.mark.parametrize(
    "parts",
    [
        [part("model", "a"), part("model", "b")],
        [part("model", "a"), part("Model", "b")],
        [part("MODEL", "a")],
        [part("model ", "a")],
        [part("model", "a", filename="x")],
        [part("file", b"a", filename="x"), part("file", b"b", filename="x")],
        [part("file", "a")],
    ],
)
def test_a_field_that_decides_stands_there_once(parts: list[bytes]) -> None:
    found = Form(parsed(form(parts)), BOUNDARY.encode(), None)  # type: ignore[arg-type]

    with pytest.raises(InvalidRequest) as refusal:
        found.refuse_ambiguous(("model",), ("file",))
    assert refusal.value.code == "ambiguous_field"


async def stored(body: bytes, space: UploadSpace) -> Upload:
    upload = Upload(space)
    for start in range(0, len(body), 100_000):
        await upload.write(body[start : start + 100_000])
    await upload.finish()
    return upload


@pytest.mark.parametrize("size", [10, IN_MEMORY * 3 + 17])
async def test_what_goes_up_is_the_clients_body_with_the_models_name_replaced(tmp_path: Path, size: int) -> None:
    file = bytes(range(256)) * (size // 256 + 1)
    body = form([part("file", file, filename="x"), part("model", "m" * 30), part("n", "1")])
    upload = await stored(body, UploadSpace(tmp_path / "uploads", most=10**7))
    found = Form(parsed(body), BOUNDARY.encode(), upload)

    async def sent(made: FormBody) -> bytes:
        whole = b"".join([piece async for piece in made.pieces()])
        assert len(whole) == made.size
        return whole

    assert await sent(found.with_model(None)) == body
    assert await sent(found.with_model("other")) == body.replace(b"m" * 30, b"other")
    nameless = form([part("file", file, filename="x")])
    unnamed = Form(parsed(nameless), BOUNDARY.encode(), await stored(nameless, UploadSpace(tmp_path, most=10**7)))
    assert [(one.name, one.text) for one in parsed(await sent(unnamed.with_model("other")))] == [("model", "other"), ("file", None)]
    upload.close()
    unnamed.upload.close()


async def test_there_is_room_for_so_much_at_once(tmp_path: Path) -> None:
    space = UploadSpace(tmp_path, most=IN_MEMORY * 3)
    first = await stored(b"x" * IN_MEMORY * 2, space)

    second = Upload(space)
    with pytest.raises(Unavailable):
        for _ in range(2):
            await second.write(b"x" * IN_MEMORY)
    first.close()
    second.close()
    third = await stored(b"x" * IN_MEMORY * 3, space)
    third.close()


async def test_a_part_is_not_read_without_end_to_find_how_long_it_is(tmp_path: Path) -> None:
    """A hundred megabytes of what nearly is MP3 took its parser 50 s."""
    upload = await stored(b"ID3\x03\0\0\0\0\0\0" + b"\xff" * 5_000_000, UploadSpace(tmp_path, most=10**7))

    assert (await upload.examine(0, upload.size, length_of)).seconds == upload.size // USUAL + 1
    with pytest.raises(OSError, match="enough"):
        await upload.examine(0, upload.size, lambda file: file.read())
    assert len(await upload.examine(upload.size - 10, 10, lambda file: file.read())) == 10
    upload.close()


async def test_a_file_that_is_being_written_when_its_call_is_over_is_closed_after_that(tmp_path: Path) -> None:
    upload = Upload(UploadSpace(tmp_path, most=10**8))
    writing = asyncio.ensure_future(upload.write(b"x" * 10**7))
    await asyncio.sleep(0)
    writing.cancel()
    upload.close()
    await asyncio.gather(writing, return_exceptions=True)

    upload._space.threads.shutdown(wait=True)
    assert upload._file is None or upload._file.closed
    assert os.listdir(tmp_path) == []  # noqa: PTH208
