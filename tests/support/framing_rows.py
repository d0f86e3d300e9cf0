"""Rows of the conformance and smuggling checklist that are wrong in a request and in an answer alike.

`BAD_LENGTHS` are values of Content-Length, `BAD_CHUNKS` what follows a head that said chunked.
"""

BAD_LENGTHS: dict[str, bytes] = {
    "CL-03 list": b"5, 5",
    "CL-04 list": b"5, 6",
    "CL-05 plus": b"+5",
    "CL-06 minus": b"-5",
    "CL-07 hex": b"0x5",
    "CL-08 underscore": b"0_5",
    "CL-09 inner space": b"5 5",
    "CL-10 empty": b"",
    "CL-11 2^64+5": b"18446744073709551621",
    "CL-12 very long": b"9" * 32,
    "CL-14 NUL": b"5\x00",
    "CL-15 VT": b"5\x0b",
    "CL-16 Arabic digit": b"\xd9\xa5",
    "CL-17 text": b"abc",
    "CL-18 suffix": b"5;a=b",
}

BAD_CHUNKS: dict[str, bytes] = {
    "CH-01 hex prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "CH-02 plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "CH-03 minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "CH-04 underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "CH-05 leading space": b" 5\r\nhello\r\n0\r\n\r\n",
    "CH-06 trailing space": b"5 \r\nhello\r\n0\r\n\r\n",
    "CH-08 bare semicolon": b"5;\r\nhello\r\n0\r\n\r\n",
    "CH-09 unbalanced quote": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "CH-10 NUL in extension": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "CH-11 LF ends extension": b"5;a\nhello\r\n0\r\n\r\n",
    "CH-12 LF after size": b"5\nhello\r\n0\r\n\r\n",
    "CH-13 LF after data": b"5\r\nhello\n0\r\n\r\n",
    "CH-14 wrong bytes after data": b"5\r\nhelloXX0\r\n\r\n",
    "CH-15 nothing after data": b"5\r\nhello0\r\n\r\n",
    "CH-16 overflow": b"F" * 17 + b"\r\nx",
    "CH-17 empty size": b"\r\n\r\n",
    "CH-18 CR and no LF": b"5\rXhello\r\n0\r\n\r\n",
    "CH-19 CR in extension": b"2\r\r;a\r\n02\r\n41\r\n0\r\n\r\n",
    "CH-20 LF in last chunk": b"0\n\r\n",
    "CH-21 LF at the end": b"0\r\n\n",
    "CH-24 long extension": b"5;" + b"a" * 20000 + b"\r\nhello\r\n0\r\n\r\n",
    "CH-26 extension without semicolon": b"2 erf\r\naa\r\n0\r\n\r\n",
    "CH-27 LF inside trailers": b"5\r\nhello\r\n0\r\nX: y\n\r\n",
}
