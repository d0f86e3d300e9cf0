"""A shop keeps its baskets in its servers' memory: a customer stays with one server, over a restart of Penstock too."""

from __future__ import annotations

import http.client
import stat
from pathlib import Path

from support import Origin, PenstockProcess, free_port, response, serving


def visit(port: int, cookie: str = "") -> tuple[str, str, int]:
    """What a browser sees: the page, the cookie it is given, the status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/basket", headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        given = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        return answer.read().decode(), given, answer.status
    finally:
        connection.close()


def test_a_basket_is_found_again_after_a_restart(tmp_path: Path) -> None:
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    one, two = Origin(response(b"one")), Origin(response(b"two"))
    file = tmp_path / "penstock.yaml"
    with serving(one, two):
        file.write_text(f"""\
load_balancer:
  name: shop
  listeners:
    - port: {port}
      address: 127.0.0.1
      protocol: HTTP
      limits:
        rates: [{{by: header, header: x-robot, requests: 1, per: 1h}}]
  target_groups:
    - name: baskets
      stickiness: {{type: lb_cookie, duration: 1h}}
      targets: [{{ip: 127.0.0.1, port: {one.port}}}, {{ip: 127.0.0.1, port: {two.port}}}]
admin: {{listen: "{admin}"}}
""")
        with PenstockProcess(file, admin=admin):
            mine, cookie, _ = visit(port)
            assert cookie.startswith("AWSALB=")
            assert {visit(port)[0] for _ in range(4)} == {"one", "two"}
            assert {visit(port, cookie)[0] for _ in range(6)} == {mine}
        assert stat.S_IMODE((tmp_path / ".penstock" / "stickiness.key").stat().st_mode) == 0o600
        with PenstockProcess(file, admin=admin) as penstock:
            assert {visit(port, cookie)[0] for _ in range(6)} == {mine}
            statuses = []
            for _ in range(2):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("GET", "/", headers={"X-Robot": "r2"})
                statuses.append(connection.getresponse().status)
                connection.close()
            assert statuses == [200, 429]
            assert b"rate_limit_header" in penstock.get("/metrics")[1]
