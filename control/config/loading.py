"""The way in: a file, or a text, to Settings. Every mistake of one run is raised together, or none.

The order: read, compose, validate, check, read certificates, and only if nothing was wrong, make what is to be made
and compile. So a file with mistakes leaves no trace on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from ...proxy.specs import CertificateSpec, is_unix
from ...proxy.tls import POLICIES
from ..filters import InstalledFilters
from . import certificates, revocations, sticky_key
from .check_balancing import WITH_TLS, certificate_references, check_balancing
from .check_coverage import check_coverage
from .check_discovery import check_discovery
from .check_dns_serving import secure_sections
from .check_filters import check_filters
from .check_limits import check_shutdown
from .check_network import check_network
from .compile import compile_settings
from .mistakes import ConfigurationError, Mistake, UnreadableError, in_order
from .mistakes import Path as KeyPath
from .models import Certificate, ClientCertificates, Configuration
from .review import Review
from .settings import Settings
from .validation import Validated
from .yaml_source import decode, parse

# 100,000 targets are some 8 MiB. More than this is a mistaken path, such as a disk image or /dev/zero.
MAX_FILE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file without mistakes. `files` are those it names and that were read: who watches the file watches them too.

    `unnoticed` looks for what a file says in vain (see check_coverage). With 10,000 rules that is a quarter of all the
    work, so who is in a hurry to apply a file asks for it afterwards.
    """

    settings: Settings
    configuration: Configuration
    warnings: tuple[Mistake, ...]
    files: tuple[Path, ...]
    unnoticed: Callable[[], tuple[Mistake, ...]]

    @property
    def all_warnings(self) -> tuple[Mistake, ...]:
        return in_order([*self.warnings, *self.unnoticed()])


def load(path: str | Path, *, now: float, materialize: bool) -> Loaded:
    """Read a configuration file. Raises UnreadableError, or ConfigurationError with every mistake.

    `now` is seconds since the epoch. With `materialize`, what the file asks to be made (self-signed certificates) is
    kept in the state directory; without, nothing is written.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise UnreadableError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise UnreadableError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB, that is no configuration")
    text = decode(raw, str(path))
    return load_text(text, str(path), directory=file.absolute().parent, now=now, materialize=materialize)


def load_text(text: str, name: str, *, directory: Path, now: float, materialize: bool = False) -> Loaded:
    """The same from a text. `name` stands in messages, `directory` is what relative paths start from."""
    review = Review(Validated(parse(text, name)))
    check_network(review)
    check_balancing(review)
    check_discovery(review)
    check_shutdown(review)
    check_filters(review, InstalledFilters())
    files = _Files(review, directory, certificates.utc(now))
    files.read_files()
    files.read_authorities()
    files.try_certificates()
    files.check_log_directory()
    if not review.mistakes:
        files.make_self_signed(keep=materialize)
        if materialize:
            files.read_sticky_key()
    if review.mistakes:
        raise ConfigurationError(review.mistakes)
    settings = compile_settings(
        review.configuration,
        files.found,
        files.state_directory,
        lambda p: directory / p,
        files.authorities,
        files.sticky_key,
        files.revocations,
    )
    warnings = in_order(review.warnings)

    def unnoticed() -> tuple[Mistake, ...]:
        review.warnings.clear()
        check_coverage(review, files.found)
        return in_order(review.warnings)

    return Loaded(settings, review.configuration, warnings, tuple(files.files), unnoticed)


class _Files:
    """Everything that looks at or writes other files than the configuration."""

    def __init__(self, review: Review, directory: Path, now: datetime) -> None:
        self._review = review
        self._directory = directory
        self._now = now
        self.state_directory = directory / review.configuration.state.directory
        self.found: dict[str, CertificateSpec] = {}
        self.authorities: dict[str, bytes] = {}  # by the file as the configuration names it
        self.revocations: dict[str, bytes] = {}
        self.files: list[Path] = []
        self.sticky_key = b""

    def read_files(self) -> None:
        entries = self._review.configuration.certificates or ()
        base: KeyPath = ("certificates",)
        self._review.unique(
            (((*base, i, "name"), entry.name) for i, entry in enumerate(entries)), "the name {} is taken"
        )
        for index, entry in enumerate(entries):
            self._read(entry, (*base, index))

    def _read(self, entry: Certificate, path: KeyPath) -> None:
        review = self._review
        if not review.sound(*((*path, key) for key in ("cert_file", "key_file", "self_signed"))):
            return
        if entry.self_signed is not None:
            if entry.cert_file is not None or entry.key_file is not None:
                review.mistake((*path, "self_signed"), "instead of files: leave it out, or cert_file and key_file")
            return
        if entry.cert_file is None or entry.key_file is None:
            missing = "cert_file" if entry.cert_file is None else "key_file"
            message = "is missing: a certificate is cert_file and key_file, or self_signed"
            review.mistake((*path, missing), message, at_key=True)
            return
        pair = self._directory / entry.cert_file, self._directory / entry.key_file
        try:
            self.found[entry.name], warning = certificates.read(entry.name, *pair, self._now)
        except certificates.CertificateError as error:
            review.mistake((*path, error.key), str(error))
        else:
            self.files += (file for file in pair if file not in self.files)
            if warning:
                review.warn((*path, "cert_file"), warning)

    def read_authorities(self) -> None:
        """Who may sign the certificates of targets, and those of clients."""
        for path, balancer in self._review.load_balancers():
            for index, group in enumerate(balancer.target_groups):
                if group.tls is not None:
                    self._read_authority(group.tls.ca_file, (*path, "target_groups", index, "tls", "ca_file"))
            for index, listener in enumerate(balancer.listeners):
                asked = listener.client_certificates
                if asked is not None:
                    place = (*path, "listeners", index, "client_certificates", "ca_file")
                    self._read_authority(asked.ca_file, place)
                    self._read_revocations(asked, (*place[:-1], "crl_file"))

    def _read_authority(self, name: str | None, place: KeyPath) -> None:
        if name is None or name in self.authorities:
            return
        file = self._directory / name
        try:
            self.authorities[name] = certificates.read_authorities(file)
        except certificates.CertificateError as error:
            self._review.mistake(place, str(error))
        else:
            self.files += [file] if file not in self.files else []

    def _read_revocations(self, asked: ClientCertificates, place: KeyPath) -> None:
        name, authorities = asked.crl_file, self.authorities.get(asked.ca_file or "")
        if name is None or authorities is None:
            return
        file = self._directory / name
        try:
            self.revocations[name] = revocations.read(file, authorities, self._now)
        except certificates.CertificateError as error:
            self._review.mistake(place, str(error))
        else:
            self.files += [file] if file not in self.files else []

    def try_certificates(self) -> None:
        """Whether the listeners can show them: how weak a key may be is a matter of the policy."""
        tried: dict[tuple[str, str], str | None] = {}
        dns = self._review.configuration.dns
        for path, section in secure_sections(("dns",), dns) if dns is not None else ():
            if section.certificate in self.found and section.ssl_policy in POLICIES:
                why = certificates.why_unusable(self.found[section.certificate], section.ssl_policy)
                if why is not None:
                    self._review.mistake((*path, "certificate"), why)
        for path, balancer in self._review.load_balancers():
            for index, listener in enumerate(balancer.listeners):
                policy = listener.ssl_policy
                if listener.protocol not in WITH_TLS or policy not in POLICIES:
                    continue
                for place, name in certificate_references((*path, "listeners", index), listener):
                    if name in self.found and (name, policy) not in tried:
                        why = tried[name, policy] = certificates.why_unusable(self.found[name], policy)
                        if why is not None:
                            self._review.mistake(place, why)

    def check_log_directory(self) -> None:
        log = self._review.configuration.access_log
        if log is not None and log.file != "-" and not (parent := (self._directory / log.file).parent).is_dir():
            self._review.mistake(("access_log", "file"), f"there is no directory {parent}: make it, or choose another")

    def read_sticky_key(self) -> None:
        if not sticky_key.is_needed(self._review.configuration):
            return
        try:
            self.sticky_key = sticky_key.kept_key(self.state_directory)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            message = f"the key of stickiness, {self.state_directory / sticky_key.FILE_NAME}: {reason}"
            self._review.mistake(("state", "directory"), message)

    def make_self_signed(self, *, keep: bool) -> None:
        for index, entry in enumerate(self._review.configuration.certificates or ()):
            if entry.self_signed is not None:
                self._make(entry.name, entry.self_signed, ("certificates", index), keep=keep)
        for name, names, path in self._unwritten():
            self._make(name, names, path, keep=keep)

    def _unwritten(self) -> Iterable[tuple[str, tuple[str, ...], KeyPath]]:
        """Certificates that listeners name in a file that defines none: one for whatever those listeners are called."""
        if self._review.configuration.certificates is not None:
            return
        wanted: dict[str, tuple[dict[str, None], KeyPath]] = {}
        for path, balancer in self._review.load_balancers():
            for index, listener in enumerate(balancer.listeners):
                for name in listener.certificate_names():
                    names, _ = wanted.setdefault(name, ({"localhost": None}, (*path, "listeners", index)))
                    if listener.address not in {"0.0.0.0", "::"} and not is_unix(listener.address):
                        names[listener.address] = None
        for name, (names, path) in wanted.items():
            yield name, tuple(names), path

    def _make(self, name: str, names: tuple[str, ...], path: KeyPath, *, keep: bool) -> None:
        directory = self.state_directory / "certificates"
        try:
            self.found[name] = certificates.self_signed(name, names, directory, self._now, keep=keep)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            self._review.mistake(path, f"the certificate {name} cannot be kept in {directory}: {reason}")
