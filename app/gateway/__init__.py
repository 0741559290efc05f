"""The data plane. `call.py` has the order of a call's steps, `call_record.py` what its row will say.

    receiving     the client's request is read
    admission     who calls, whether the call may be made, and what is held for it
    forwarding    to an upstream, or to the next one
    answering     the answer passes to the client, and is settled
    metering      what an answer says of its usage, found as it passes
    protocols     what differs between APIs
    forms         multipart forms
    watching      what operators see of calls

`by_id.py` are requests for what an upstream keeps, `quote.py` is `/v1/estimate`. Imports go one way, which `make check` holds.
"""
