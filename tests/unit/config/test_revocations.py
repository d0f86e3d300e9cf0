"""CRLs of clients: what is of no use is said in words when the file is read, and not by refusing every client later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.control.config import revocations
from penstock.control.config.certificates import CertificateError
from support.certificates import Authority, issue

ROOT, OTHER = Authority(), Authority("Example Other")
NOW = datetime.now(UTC)


def test_several_lists_and_what_stands_around_them(tmp_path: Path) -> None:
    file = tmp_path / "revoked.pem"
    one, other = ROOT.revoked(1), OTHER.revoked(2)
    file.write_bytes(b"# of today\n" + one + b"\n# and\n" + other)
    assert revocations.read(file, ROOT.pem + OTHER.pem, NOW) == one + other


@pytest.mark.parametrize(
    ("content", "authorities", "now", "said"),
    [
        (None, ROOT.pem, NOW, "cannot be read: No such file or directory"),
        (b"nothing", ROOT.pem, NOW, "holds no CRL in PEM form"),
        (ROOT.pem, ROOT.pem, NOW, "holds no CRL in PEM form"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", ROOT.pem, NOW, "holds a CRL that cannot be read"),
        (ROOT.revoked(1), OTHER.pem, NOW, "is a CRL of CN=Example Root, which is not in the ca_file"),
        (ROOT.revoked(1, ends=-1), ROOT.pem, NOW, r"expired on [0-9-]+, and nobody would get in: get the next one"),
        (ROOT.revoked(1), ROOT.pem, NOW - timedelta(days=20), r"is not valid before [0-9-]+: check the clock, or wait"),
    ],
)
def test_what_is_of_no_use(tmp_path: Path, content: bytes | None, authorities: bytes, now: datetime, said: str) -> None:
    file = tmp_path / "revoked.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CertificateError, match=said):
        revocations.read(file, authorities, now)


def test_one_that_somebody_else_has_signed_in_the_authoritys_name(tmp_path: Path) -> None:
    file = tmp_path / "revoked.pem"
    file.write_bytes(Authority("common.example.org").revoked(1))
    namesake = issue("common.example.org").chain_pem  # its subject is that name, its key another
    with pytest.raises(
        CertificateError, match=r"is not signed by the key that CN=common.example.org has in the ca_file"
    ):
        revocations.read(file, namesake, NOW)
