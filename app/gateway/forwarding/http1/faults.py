"""What may go wrong between here and a server.

HttpFault
    Unreachable         no connection: no such name, refused, no TLS that can be trusted
        AddressRefused  the name leads where no upstream may be
    Stalled             nothing came for too long, or no connection in time
    TooLong             the whole took too long
    Cut                 the connection ended before the answer did
    NotHttp             what came is no HTTP/1.1, or could be read in two ways
"""


class HttpFault(Exception):
    """The message is for the log; it holds nothing of what was sent or received."""


class Unreachable(HttpFault):
    pass


class AddressRefused(Unreachable):
    pass


class Stalled(HttpFault):
    pass


class TooLong(HttpFault):
    pass


class Cut(HttpFault):
    pass


class NotHttp(HttpFault):
    pass
