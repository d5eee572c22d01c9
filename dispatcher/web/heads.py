"""HTTP as uvicorn reads it with httptools, of which what stands before and around a body is bounded too.

Neither of them stops reading a head that does not end, or trailers behind a body (RFC 9112 §7.1.2), and both keep all
of it in memory. `BodyLimit` bounds bodies, and hears of a request only when its head is whole.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes that a request may have without ending its head.
MAX_HEAD = 65_536
#: Bytes of framing that each byte of a body excuses: chunks of a single byte have six.
FRAMING = 8


class BoundedHead(HttpToolsProtocol):
    """One connection. What is too much is refused with 400, as far as there is anybody to answer."""

    _open = 0  #: bytes since something came to its end

    def data_received(self, data: bytes) -> None:
        self._open += len(data)
        super().data_received(data)
        if self._open <= MAX_HEAD or self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.send_400_response("The head of this request is too long.")
        else:
            self.transport.abort()  # an answer is on its way, and belongs to an earlier request

    def on_headers_complete(self) -> None:
        self._open = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._open = max(0, self._open - (1 + FRAMING) * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._open = 0
        super().on_message_complete()
