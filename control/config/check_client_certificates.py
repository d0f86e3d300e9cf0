"""What listeners ask of their clients: authorities where somebody is to be verified, and nowhere else."""

from __future__ import annotations

from .mistakes import Path
from .models import ClientCertificates, Listener
from .review import Review

IDENTITY = "x-amzn-mtls-"  # how the fields begin that tell targets of a client's certificate


def check_client_certificates(review: Review, path: Path, listener: Listener, asked: ClientCertificates) -> None:
    if not review.sound((*path, "mode"), (*path, "ca_file")):
        return
    if asked.mode in {"optional", "required"} and asked.ca_file is None:
        message = f"is missing: to verify clients ({asked.mode}) takes the certificates of those who sign theirs"
        review.mistake((*path, "ca_file"), message, at_key=True)
    elif asked.mode == "passthrough":
        if listener.protocol == "TLS":
            message = (
                "passthrough tells targets in HTTP fields, and a TLS listener has none: choose required or optional"
            )
            review.mistake((*path, "mode"), message)
        elif asked.ca_file is not None:
            review.mistake((*path, "ca_file"), "passthrough verifies nothing: leave it out, or choose another mode")
        elif asked.crl_file is not None:
            review.mistake((*path, "crl_file"), "passthrough verifies nothing: leave it out, or choose another mode")


def check_identity_condition(review: Review, path: Path, name: str) -> None:
    """A rule sees what the client wrote, and anybody can write that he is somebody."""
    if name.lower().startswith(IDENTITY):
        message = "is for targets to read: a rule would believe what any client writes there"
        review.mistake(path, message, at_key=True)
