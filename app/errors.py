"""Every error that this service answers with.

    ProxyError                      a call or a request can't be served; carries its HTTP status
    ├── UnexpectedFault      500    a fault of this service; what it was, is in the log and not in the answer
    ├── InvalidRequest       400    the client must change what it sends
    ├── Unauthenticated      401    no key or token, or one that is not accepted
    ├── InsufficientCredit   402    the account, or what the key may spend, can't cover what the call may cost
    ├── Forbidden            403    the key may not do this, or its user is disabled
    ├── NotFound             404    no such model, route, user, ...
    ├── MethodNotAllowed     405    the path answers other methods
    ├── RequestTooSlow       408    the request did not come whole in time
    ├── Conflict             409    the request contradicts what is stored
    ├── BodyTooLarge         413    over `MAX_BODY_BYTES`, `MAX_UPLOAD_BYTES`, or the fixed limit of all routes but the calls of models
    ├── UnacceptableValue    422    well-formed, but a value makes no sense
    ├── UpgradeRequired      426    the path is not served over WebSocket
    ├── HeadTooLarge         431    the request line and headers are too many or too long
    ├── UpstreamFailed       502    an upstream could not be reached, gave no usable answer, or refused our own credentials
    ├── UpstreamTimeout      504    an upstream did not answer in time
    └── TryLater                    the same request may succeed later; carries `Retry-After`
        ├── LimitExceeded    429    a rate or concurrency limit of the key
        └── Unavailable      503    the database or the spool is away, or the process is stopping
    StartupError                    the process can't start; its message is the one line that the operator sees

The HTTP edge turns a `ProxyError` into the envelope of the protocol that was called (`gateway.protocols`) or into
RFC 9457 problem details (`api.problems`). Messages say what to do and never hold a secret.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class ProxyError(Exception):
    """A request that can't be served. `code` is for programs, `str(error)` for people."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.headers = headers or {}


class UnexpectedFault(ProxyError):
    def __init__(self) -> None:
        super().__init__("Something went wrong in this service, not in your request. Its operator finds the cause in the log.")


class InvalidRequest(ProxyError):
    status = 400
    default_code = "invalid_request"


class Unauthenticated(ProxyError):
    status = 401
    default_code = "invalid_api_key"


class InsufficientCredit(ProxyError):
    status = 402
    default_code = "insufficient_credit"


class Forbidden(ProxyError):
    status = 403
    default_code = "forbidden"


class NotFound(ProxyError):
    status = 404
    default_code = "not_found"


class MethodNotAllowed(ProxyError):
    status = 405
    default_code = "method_not_allowed"


class RequestTooSlow(ProxyError):
    status = 408
    default_code = "request_too_slow"


class Conflict(ProxyError):
    status = 409
    default_code = "conflict"


class BodyTooLarge(ProxyError):
    status = 413
    default_code = "body_too_large"


class UnacceptableValue(ProxyError):
    """`faults`: where there are several, what is at fault and what is wrong with it, for each."""

    status = 422
    default_code = "invalid_value"

    def __init__(self, message: str, *, code: str | None = None, faults: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, code=code)
        self.faults = faults


class UpgradeRequired(ProxyError):
    status = 426
    default_code = "websocket_unsupported"


class HeadTooLarge(ProxyError):
    status = 431
    default_code = "head_too_large"


class UpstreamFailed(ProxyError):
    status = 502
    default_code = "upstream_failed"


class UpstreamTimeout(ProxyError):
    status = 504
    default_code = "upstream_timeout"


class TryLater(ProxyError):
    """`retry_after` is in whole seconds, at least 1."""

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 1, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, code=code, headers={**(headers or {}), "Retry-After": str(max(1, retry_after))})


class LimitExceeded(TryLater):
    status = 429
    default_code = "rate_limit_exceeded"


class Unavailable(TryLater):
    status = 503
    default_code = "unavailable"


class StartupError(Exception):
    """The process can't start. The message is one line that says what to change."""
