"""DNS over HTTPS (RFC 8484), without the connection: which request is a question, and how long its answer may be kept.
Pure."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import parse_qsl

from .wire import HEADER_SIZE, Question, Rcode, Type, read_response, soa_minimum

MEDIA_TYPE = b"application/dns-message"  # RFC 8484 section 6
MESSAGE_LIMIT = 65535  # octets, section 6
TARGET_LIMIT = 8192  # octets of a GET's target; a question of 255 octets with options is some 600 in base64


def message_of(method: bytes, target: bytes, content_type: bytes, body: bytes, path: bytes) -> bytes | int:
    """The query in a request, or the status that says why there is none."""
    asked, _, parameters = target.partition(b"?")
    if asked != path:
        return 404
    if method == b"POST":
        if content_type.partition(b";")[0].strip().lower() != MEDIA_TYPE:
            return 415
        return body if len(body) <= MESSAGE_LIMIT else 413
    if method not in (b"GET", b"HEAD"):
        return 405
    if len(target) > TARGET_LIMIT:
        return 414
    found = [value for name, value in parse_qsl(parameters.decode("latin-1"), keep_blank_values=True) if name == "dns"]
    if len(found) != 1:
        return 400
    try:
        # Without padding, section 4.1; some send it all the same.
        text = found[0].rstrip("=").encode("ascii")
        return base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return 400


def max_age(reply: bytes, question: Question | None) -> int:
    """Seconds that caches may keep it: the least TTL of its answers, or what its SOA says (section 5.1)."""
    if question is None:
        return 0
    response = read_response(reply, question.id, reply[HEADER_SIZE : HEADER_SIZE + len(question.section)])
    if response is None or response.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return 0
    if response.answers:
        return min(record.ttl for record in response.answers)
    soas = [record for record in response.authorities if record.rtype == Type.SOA]
    return min((min(soa.ttl, soa_minimum(reply, soa)) for soa in soas), default=0)
