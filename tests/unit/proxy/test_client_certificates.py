"""Names from certificates on their way into header fields, and authorities that are none."""

from __future__ import annotations

import re

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from penstock.proxy.client_certificates import name_as_field
from penstock.proxy.specs import ClientCertificatesSpec
from penstock.proxy.tls import server_context
from support.certificates import issue

texts = st.text(min_size=1, max_size=30)


def name(*values: str) -> x509.Name:
    oids = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in zip(oids, values, strict=False)])


@pytest.mark.parametrize(
    ("subject", "field"),
    [
        (name("app", "Example"), b"O=Example,CN=app"),
        (name("a,b=c"), b"CN=a\\,b=c"),
        (name("Öl"), b"CN=\\C3\\96l"),
        (name("a\r\nX: y"), b"CN=a\\0D\\0AX: y"),
        (x509.Name([]), b""),
    ],
)
def test_names(subject: x509.Name, field: bytes) -> None:
    assert name_as_field(subject) == field


@given(texts, texts)
def test_no_name_leaves_its_field(common_name: str, organization: str) -> None:
    try:
        subject = name(common_name, organization)
        subject.public_bytes()
    except (ValueError, UnicodeEncodeError):  # no certificate can hold it
        return
    assert re.fullmatch(rb"[\x20-\x7e]*", name_as_field(subject))


@pytest.mark.parametrize("pem", [b"", b"no PEM", "Ä".encode()])
def test_authorities_that_are_none(pem: bytes) -> None:
    with pytest.raises(ValueError, match="authorities of client certificates"):
        server_context((issue("a"),), "TLS-1-2", client_certificates=ClientCertificatesSpec("required", pem))
