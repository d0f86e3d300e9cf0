"""The key that signs the cookies of stickiness, and that those of DNS come of: made once, kept in the state directory
for its owner's eyes alone.

Whoever has it can choose his target, no more: it opens nothing else. Delete the file to part with all cookies given
out so far; copy it to let several machines understand each other's.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from .certificates import write_secret
from .models import Action, Configuration

KEY_BYTES = 32  # SHA-256's block is larger, its strength is not
FILE_NAME = "stickiness.key"


def is_needed(configuration: Configuration) -> bool:
    if configuration.dns is not None and configuration.dns.cookies:
        return True
    for balancer in configuration.every_load_balancer():
        if any(group.stickiness for group in balancer.target_groups):
            return True
        actions: list[Action | None] = [listener.default_action for listener in balancer.listeners]
        actions += (rule.action for listener in balancer.listeners for rule in listener.rules)
        if any(action is not None and action.stickiness for action in actions):
            return True
    return False


def kept_key(directory: Path) -> bytes:
    """The key in `directory`, made if there is none. Raises OSError, or ValueError for a file that is no key."""
    path = directory / FILE_NAME
    try:
        with path.open("rb") as file:
            text = file.read(2 * KEY_BYTES + 2)
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ValueError("others may read it: chmod 600, or delete it to have a new one made")
    except FileNotFoundError:
        key = secrets.token_bytes(KEY_BYTES)
        write_secret(path, key.hex().encode() + b"\n")
        return key
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"is not {2 * KEY_BYTES} hexadecimal digits: delete it to have a new one made")
    return key
