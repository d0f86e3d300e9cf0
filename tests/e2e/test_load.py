"""Under load: no errors on 64 connections, and SIGTERM in the middle of it costs nobody an answer."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import Exchange, Origin, PenstockProcess, free_port, need_tool, response, run, serving
from support.loadtarget import nginx

CONNECTIONS = 64
SECONDS = 2
