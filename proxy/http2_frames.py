"""The frame layer of HTTP/2 towards targets: the library's, but for what a peer that goes away still gets.

RFC 9113 6.8: GOAWAY ends the making of streams, and those under way go on. The library takes it for the end of the
connection and throws away what it was about to send, so every request at a target that retires gracefully (gRPC's
max_connection_age, nginx's keepalive_requests) would have failed.
"""

from __future__ import annotations

import h2.connection
import h2.errors
import h2.events
from hyperframe.frame import Frame, GoAwayFrame


class Frames(h2.connection.H2Connection):
    """After ConnectionTerminated the owner makes no new streams; nothing else has changed."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        try:
            code = h2.errors.ErrorCodes(frame.error_code)
        except ValueError:  # RFC 9113 7: an unknown code has no meaning of its own
            code = h2.errors.ErrorCodes.INTERNAL_ERROR
        event = h2.events.ConnectionTerminated()
        event.error_code = code
        event.last_stream_id = frame.last_stream_id
        return [], [event]
