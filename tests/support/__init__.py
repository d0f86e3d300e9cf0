"""What several tests need: a loop that notices what is left behind, scripted origins, Penstock as a process.

Imported as `support`, because pytest puts `tests/` and nothing else of the repository on the path.
"""

from .loop import run
from .origin import Exchange, Origin, Reply, Request, hang, reset, response, serving
from .process import PenstockProcess
from .tools import free_port, need_tool

__all__ = [
    "Exchange",
    "Origin",
    "PenstockProcess",
    "Reply",
    "Request",
    "free_port",
    "hang",
    "need_tool",
    "reset",
    "response",
    "run",
    "serving",
]
