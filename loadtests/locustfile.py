"""Users of the quickstart: browsers over HTTP, API clients over HTTPS, and resolvers that ask for services by DNS.

Run from this folder (`make load` does): from the top of the repository, locust would take our folder `dns` for
dnspython.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import dnslib
import gevent.socket  # locust runs on gevent: a plain socket would stop every other user while it waits
from locust import FastHttpUser, User, between, constant_throughput, task
from locust.env import Environment

HTTP = os.environ.get("PENSTOCK_HTTP", "http://127.0.0.1:8080")
HTTPS = os.environ.get("PENSTOCK_HTTPS", "https://localhost:8443")
DNS = os.environ.get("PENSTOCK_DNS", "127.0.0.1:8053")


class Browser(FastHttpUser):
    """Reads pages, follows a redirect now and then, sends a form."""

    host = HTTP
    weight = 3
    wait_time = between(0.01, 0.1)

    @task(10)
    def page(self) -> None:
        self.client.get("/")

    @task(3)
    def moved(self) -> None:
        with self.client.get("/old/page", allow_redirects=False, catch_response=True) as answer:
            if answer.status_code == 301 and "/new/" in answer.headers["Location"]:
                answer.success()
            else:
                answer.failure(f"{answer.status_code}, not a redirect to /new/")

    @task(1)
    def form(self) -> None:
        body = b"name=value&" * 1000
        with self.client.post("/form", data=body, catch_response=True) as answer:
            if f"{len(body)} bytes" in (answer.text or ""):
                answer.success()
            else:
                answer.failure(f"the origin did not get {len(body)} bytes")


class ApiClient(FastHttpUser):
    """Calls the API over TLS, keeping its connection."""

    host = HTTPS
    weight = 2
    wait_time = constant_throughput(20)

    @task
    def call(self) -> None:
        self.client.get("/api/hello", headers={"Host": "api.example.org"})


class Resolver(User):
    """Asks for addresses and services over UDP, and expects an answer within a second."""

    weight = 2
    wait_time = constant_throughput(50)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        address, _, port = DNS.rpartition(":")
        self.socket = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
        self.socket.settimeout(1.0)
        self.socket.connect((address, int(port)))

    def on_stop(self) -> None:
        self.socket.close()

    @task(3)
    def address(self) -> None:
        self.ask("api.services", "A", lambda answer: len(answer.rr) > 0)

    @task(1)
    def service(self) -> None:
        self.ask("api.services", "SRV", lambda answer: len(answer.rr) > 0 and len(answer.ar) > 0)

    @task(1)
    def nobody(self) -> None:
        self.ask("nobody.services", "A", lambda answer: dnslib.RCODE[answer.header.rcode] == "NXDOMAIN")

    def ask(self, name: str, kind: str, right: Callable[[dnslib.DNSRecord], bool]) -> None:
        """One query; a late answer to an earlier one is passed over, as a resolver does."""
        query = dnslib.DNSRecord.question(name, kind)
        began = time.perf_counter()
        packet, problem = b"", None
        try:
            self.socket.send(query.pack())
            while packet[:2] != query.header.id.to_bytes(2, "big"):
                packet = self.socket.recv(4096)
            if not right(dnslib.DNSRecord.parse(packet)):
                problem = ValueError(f"not the right answer for {name} {kind}")
        except (OSError, dnslib.DNSError) as exc:
            problem = exc
        self.environment.events.request.fire(
            request_type="DNS",
            name=f"{name} {kind}",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=len(packet),
            exception=problem,
            context={},
        )
