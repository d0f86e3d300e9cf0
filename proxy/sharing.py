"""How a listener has its address: alone, shared with equals in other processes, or only reserved for them."""

from __future__ import annotations

from typing import Literal

# alone: nobody else can listen there, the kernel sees to it.
# shared: SO_REUSEPORT. Every process binds and listens for itself, and the kernel gives each connection to one of them.
# reserved: bound and never listening, so that the address stays ours while those who share it come and go.
Sharing = Literal["alone", "shared", "reserved"]
