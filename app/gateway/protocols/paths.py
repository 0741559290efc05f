"""Which protocol a path is spoken at. Clients put paths together in more ways than providers document:

/v1/chat/completions                     as documented
/chat/completions, /v1/v1/...            the base URL lacked its version, or had it already
/v1beta/openai/..., /openai/v1/...       as at Gemini's and Azure's compatible endpoints
/openai/deployments/{model}/...          Azure's: the path names the model
/v1/models/{model}:generateContent       Gemini's, whose version may be v1, v1alpha or v1beta
"""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

from app.gateway.protocols.base import NOTHING_MORE, Asked, Protocol

_PREFIXES = re.compile(r"^/(?:v1beta/openai|openai/v1|openai|v1/v1|v1)(?=/)")
_DEPLOYMENT = re.compile(r"^/openai/deployments/([^/]+)(?=/)")
_OF_MODEL = re.compile(r"^/v1(?:alpha|beta)?/models/(.+):(\w+)$")
_PASSING = ("alt", "beta")
"""What of a URL's query goes upstream: the form of Gemini's streams, and `beta=true`, with which Anthropic's SDKs and Claude
Code mark calls that use beta features. Keys stay here."""


class Paths:
    def __init__(self, protocols: Iterable[Protocol]) -> None:
        self._exact = {protocol.path: protocol for protocol in protocols}

    def find(self, path: str, query: bytes) -> tuple[Protocol, Asked] | None:
        """For what `exact` doesn't have."""
        if (named := _OF_MODEL.match(path)) and _is_name(named[1]):
            protocol = self._exact.get(f"/v1beta/models/{{model}}:{named[2]}")
            return (protocol, Asked(model=named[1], query=_passing(query))) if protocol else None
        if deployed := _DEPLOYMENT.match(path):
            return self._plain("/v1" + path[deployed.end() :], Asked(model=deployed[1], query=_passing(query)))
        return self._plain(plain(path), asked_in(query))

    def exact(self, path: str) -> Protocol | None:
        return self._exact.get(path)

    def _plain(self, path: str, asked: Asked) -> tuple[Protocol, Asked] | None:
        protocol = self._exact.get(path)
        return (protocol, asked) if protocol else None


def plain(path: str) -> str:
    """As it is documented, however its version was written."""
    return "/v1" + _PREFIXES.sub("", path, count=1)


def asked_in(query: bytes) -> Asked:
    """What a URL asks whose path says nothing beyond its protocol."""
    return Asked(query=_passing(query)) if query else NOTHING_MORE


def _passing(query: bytes) -> str:
    return urlencode([(name, value) for name, value in parse_qsl(query.decode("latin-1")) if name in _PASSING])


def _is_name(model: str) -> bool:
    """A model in a path goes into the path at the upstream, and must lead nowhere else."""
    return model.isprintable() and "\\" not in model and not {"", ".", ".."} & set(model.split("/"))
