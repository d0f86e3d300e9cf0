"""Which resolvers are asked, in what order, and when a second one is asked as well. Pure: it is told what time it is.

Of each resolver we know how long its answers take. The quickest is asked first; one that was not asked for a while is
gradually taken for quick again, or it could never show that it has become so (BIND does the same). One that failed
several times in a row rests, and is asked only when the others have failed too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from .forwarding_specs import ForwardZoneSpec, Resolver
from .wire import encode_name, suffixes

ASSUMED = 0.05  # seconds that a resolver we know nothing of is taken to need
SMOOTHING = 0.3  # the part of a new latency in the smoothed one; BIND's
HALF_LIFE = 60.0  # seconds in which the latency of one that is not asked halves
SAMPLES = 64  # latencies that the 95th percentile is taken of
SAMPLES_LEAST = 8  # fewer say nothing about it
HEDGE_FACTOR = 1.5  # of the 95th percentile: then one question in twenty or fewer is asked twice
HEDGE_FLOOR = 0.02  # seconds; a resolver next door shall not be doubted for one slow turn of the loop
HEDGE_UNKNOWN = 0.4  # seconds, while there are too few samples; Unbound's first guess of a round trip is 0.376
FAILURES = 3  # in a row, before it rests
REST = 2.0  # seconds of the first rest; each further one is twice as long
REST_LIMIT = 30.0
CASE_MEMORY = 3600.0  # seconds that a resolver which folds case is not asked in mixed case


class Track:
    """What is known of one resolver."""

    __slots__ = (
        "_asked",
        "_failures",
        "_p95",
        "_rest_until",
        "_samples",
        "_smoothed",
        "_unsorted",
        "address",
        "folds_until",
        "name",
    )

    def __init__(self, address: Resolver) -> None:
        self.address = address
        self.name = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
        self.folds_until = 0.0
        self._smoothed = ASSUMED
        self._asked = 0.0
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._unsorted = 0  # samples since the percentile was taken
        self._p95 = 0.0
        self._failures = 0
        self._rest_until = 0.0

    def answered(self, latency: float, now: float) -> None:
        self._failures = 0
        self._rest_until = 0.0
        self._asked = now
        self._smoothed += SMOOTHING * (latency - self._smoothed)
        self._samples.append(latency)
        self._unsorted += 1

    def outrun(self, waited: float, now: float) -> None:
        """Another one answered first: it takes at least this long."""
        self._asked = now
        self._smoothed = max(self._smoothed, waited)

    def failed(self, waited: float, now: float) -> None:
        self._failures += 1
        self.outrun(max(2 * self._smoothed, waited), now)
        if self._failures >= FAILURES:
            self._rest_until = now + min(REST * 2 ** (self._failures - FAILURES), REST_LIMIT)

    def rests(self, now: float) -> bool:
        return now < self._rest_until

    def expected(self, now: float) -> float:
        """Seconds that its next answer may take."""
        return self._smoothed * 0.5 ** (max(now - self._asked, 0.0) / HALF_LIFE)

    def hedge_after(self) -> float:
        """Seconds to wait for it before another one is asked as well."""
        if len(self._samples) < SAMPLES_LEAST:
            return HEDGE_UNKNOWN
        if self._unsorted >= SAMPLES_LEAST or not self._p95:
            self._p95 = sorted(self._samples)[int(0.95 * (len(self._samples) - 1))]
            self._unsorted = 0
        return max(HEDGE_FACTOR * self._p95, HEDGE_FLOOR)


def in_order(tracks: Sequence[Track], now: float) -> list[Track]:
    """The one to ask first comes first; among equals, the one that was written first."""
    if len(tracks) == 1:
        return list(tracks)
    return sorted(tracks, key=lambda track: (track.rests(now), track.expected(now)))


class Routes:
    """Which resolvers a name is asked of: those of the longest zone above it, else the general ones."""

    __slots__ = ("_general", "_zones", "tracks")

    def __init__(
        self, resolvers: Iterable[Resolver] = (), zones: Iterable[ForwardZoneSpec] = (), known: Routes | None = None
    ) -> None:
        """What `known` has learnt of resolvers that stay is kept."""
        before = known.tracks if known is not None else {}
        self.tracks: dict[Resolver, Track] = {}

        def pool(addresses: Iterable[Resolver]) -> tuple[Track, ...]:
            for address in addresses:
                self.tracks.setdefault(address, before.get(address) or Track(address))
            return tuple(self.tracks[address] for address in dict.fromkeys(addresses))

        self._general = pool(tuple(resolvers))
        self._zones = {encode_name(zone.name).lower(): pool(zone.resolvers) for zone in zones}

    @property
    def general(self) -> bool:
        """Whether there is somebody for every name."""
        return bool(self._general)

    def zone_of(self, key: bytes) -> bytes | None:
        """The longest configured zone that a name in lower case is in."""
        if not self._zones:
            return None
        return next((suffix for suffix in suffixes(key) if suffix in self._zones), None)

    def resolvers_of(self, key: bytes) -> tuple[Track, ...]:
        zone = self.zone_of(key)
        return self._general if zone is None else self._zones[zone]
