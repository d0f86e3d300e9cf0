"""The proxy's tests ask for certificates by fixture."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock.proxy.specs import CertificateSpec
from support import certificates

Issue = Callable[..., CertificateSpec]


@pytest.fixture(scope="session")
def issue() -> Issue:
    return certificates.issue
