"""What browsers load: our modules, styles and words, and Apache ECharts out of an installed package.

All of it is read once, and served under `/dashboard/static/{version}/`, where `version` is made of the whole content: browsers never
ask again for what they have, and modules find each other by relative paths. Raises `StartupError` where a file is missing.
"""

import gzip
import hashlib
import json
import posixpath
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from app.dashboard.languages import LANGUAGES
from app.errors import NotFound, StartupError

PREFIX = "/dashboard/static"
ECHARTS = "echarts.esm.min.js"
_IMPORTED = re.compile(r"""(?:^import |^\} |^export .*|\bimport\()(?:[^"'\n]*from )?["'](\.[^"']+)["']""", re.MULTILINE)
"""By modules of ours, whatever way; what is put together when it runs is not."""
_PLACE = Path(__file__).parent / "static"
_PACKAGE = "instaui_echarts"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True)
class Asset:
    content: bytes
    media_type: str

    @cached_property
    def compressed(self) -> bytes:
        return gzip.compress(self.content, mtime=0)


@dataclass(frozen=True, slots=True)
class Assets:
    """By their path below `PREFIX/{version}/`."""

    version: str
    files: dict[str, Asset]

    @classmethod
    def load(cls) -> Self:
        found = {path.relative_to(_PLACE).as_posix(): path for path in sorted(_PLACE.rglob("*")) if path.suffix in _TYPES}
        files = {name: Asset(path.read_bytes(), _TYPES[path.suffix]) for name, path in found.items()}
        files[ECHARTS] = Asset(charts_file().read_bytes(), _TYPES[".js"])
        for language in LANGUAGES.values():
            words = json.dumps(language.words, ensure_ascii=False, separators=(",", ":"))
            files[f"strings/{language.code}.js"] = Asset(f"export default {words};\n".encode(), _TYPES[".js"])
        digest = hashlib.sha256()
        for name in sorted(files):
            digest.update(name.encode() + b"\0" + hashlib.sha256(files[name].content).digest())
        return cls(digest.hexdigest()[:16], files)

    def url(self, name: str) -> str:
        """Raises `KeyError` for what isn't there, so that a page never names it."""
        assert self.files[name]
        return f"{PREFIX}/{self.version}/{name}"

    def needed_by(self, module: str) -> list[str]:
        """It, and all that it imports and these in turn, so that a browser fetches them at once and not one after the other."""
        found = [module]
        for name in found:
            if name != ECHARTS:
                paths = _IMPORTED.findall(self.files[name].content.decode())
                imported = (posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) for path in paths)
                found += [other for other in dict.fromkeys(imported) if other not in found]
        return found


def charts_file() -> Path:
    """Raises `StartupError` where it isn't installed."""
    spec = find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place) / "static" / ECHARTS).is_file():
            return path
    raise StartupError(f"{ECHARTS}, which draws the dashboard's charts, is missing: install what requirements.lock lists (`make install`)")


def router_of(assets: Assets) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get(PREFIX + "/{version}/{name:path}")
    async def serve(request: Request, version: str, name: str) -> Response:
        asset = assets.files.get(name) if version == assets.version else None
        if asset is None:
            raise NotFound("The dashboard has been updated, or has no such file. Load its page anew.", code="file_not_found")
        headers = dict(_KEPT)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(asset.content, headers=headers, media_type=asset.media_type)
        # compressing a megabyte takes as long as a thousand calls do
        body = asset.__dict__.get("compressed") or await to_thread.run_sync(lambda: asset.compressed)
        return Response(body, headers=headers | {"Content-Encoding": "gzip"}, media_type=asset.media_type)

    return router
