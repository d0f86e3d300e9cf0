"""Files as people have them: the examples load as they stand, what cannot be read is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.control.config import ConfigurationError, UnreadableError, load, load_text
from penstock.control.config.yaml_source import decode
from support.loaded import NOW, key_and_certificate, key_pem, loaded, mistakes, settings, warnings

EXAMPLES = Path(__file__).parent / "examples"
CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("network", []),
        ("load_balancer", ["load_balancer.listeners[0].certificate"]),
        (
            "security",
            [
                "security.security_groups.web-sg.ingress[1].source",
                "security.network_acls.app-acl.outbound",
            ],
        ),
    ],
)
def test_the_first_examples_load_as_they_stand(name: str, expected: list[str]) -> None:
    found = load(EXAMPLES / f"{name}.yaml", now=NOW, materialize=False)
    assert [warning.path for warning in found.all_warnings] == expected
    assert not (EXAMPLES / ".penstock").exists()


def test_every_section_at_once(tmp_path: Path) -> None:
    key, chain = key_and_certificate()
    (tmp_path / "server.pem").write_bytes(chain)
    (tmp_path / "server.key").write_bytes(key_pem(key))
    (tmp_path / "whole.yaml").write_bytes((EXAMPLES / "whole.yaml").read_bytes())
    found = load(tmp_path / "whole.yaml", now=NOW, materialize=True)
    assert [warning.path for warning in found.all_warnings] == [
        "load_balancer.listeners[1].rules[1].conditions.host[0]",  # no certificate is for it
        "security.security_groups.web-sg.ingress[1].source",
    ]
    assert found.files == (tmp_path / "server.pem", tmp_path / "server.key")
    assert [listener.key for listener in found.settings.proxy.listeners] == ["127.0.0.1:8080", "0.0.0.0:8443"]
    assert found.settings.admin == ("127.0.0.1", 9900)
    assert found.settings.access_log is not None
    assert found.settings.access_log.path == str(tmp_path / "access.log")
    assert (tmp_path / ".penstock" / "certificates" / "dev.pem").exists()


@pytest.mark.parametrize("name", ["quickstart.yaml", "reference.yaml"])
def test_our_own_files_are_without_mistake_or_warning(name: str) -> None:
    found = load(CONFIGS / name, now=NOW, materialize=False)
    assert not found.all_warnings


def test_a_path_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UnreadableError) as caught:
            load(path, now=NOW, materialize=False)
        assert str(caught.value) == f"{path} cannot be read: {reason}"
    with pytest.raises(UnreadableError, match="null byte"):
        load(f"{tmp_path}/\0", now=NOW, materialize=False)


def test_a_file_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # root, as CI runs, may read everything
    with pytest.raises(UnreadableError, match=r"^penstock\.yaml cannot be read: Permission denied$"):
        load("penstock.yaml", now=NOW, materialize=False)


def test_a_file_without_end() -> None:
    with pytest.raises(UnreadableError, match="is larger than 64 MiB, that is no configuration"):
        load("/dev/zero", now=NOW, materialize=False)


def test_utf_16_is_named() -> None:
    with pytest.raises(ConfigurationError, match="f:1:1: the file is UTF-16, save it as UTF-8"):
        decode("admin: {}".encode("utf-16"), "f")


def test_a_mistake_reads_as_file_line_column_path_and_sentence() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text("load_balancer:\n  nmae: lb\n", "lb.yaml", directory=Path("/nowhere"), now=NOW)
    assert str(caught.value) == 'lb.yaml:2:3: load_balancer.nmae: unknown key, did you mean "name"?'


def test_mistakes_come_in_the_order_of_the_file() -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded("dns: {}\nload_balancer: {name: a, name: b, tpye: x}\nadmin: 5\n")
    places = [(mistake.line, mistake.column) for mistake in caught.value.mistakes]
    assert places == sorted(places)
    assert len(places) == 4


def test_a_mistake_in_one_object_hides_none_in_another() -> None:
    text = """
    load_balancer:
      name: lb
      listeners:
        - {port: 1, protocol: HTTP, default_action: {forward: nobody}, prot: 1}
        - {port: eighty, protocol: HTTP, default_action: {forward: nobody}}
        - {port: 1, protocol: HTTP, address: 10.0.0.1, default_action: {forward: [{target_group: tg-web, weight: -1}]}}
      target_groups:
        - {name: tg-web, targets: [{ip: x}, {ip: 10.0.0.1, port: 1}, {ip: 10.0.0.1, port: 1}]}
    """
    found = [mistake.split(": ")[0] for mistake in mistakes(text)]
    assert found == [
        "load_balancer.listeners[0].default_action.forward",
        "load_balancer.listeners[0].prot",
        "load_balancer.listeners[1].port",
        "load_balancer.listeners[1].default_action.forward",
        "load_balancer.listeners[2].port",
        "load_balancer.listeners[2].default_action.forward[0].weight",
        "load_balancer.target_groups[0].targets[0].port",
        "load_balancer.target_groups[0].targets[0].ip",
        "load_balancer.target_groups[0].targets[2].ip",
    ]


IN_DOUBT = {
    "the name of the target group, so a rule that names it may be right": """
    listeners: [{port: 1, protocol: HTTP, default_action: {forward: tg}}]
    target_groups: [{nmae: tg}]""",
    "all target groups, so a rule that names one may be right": """
    listeners: [{port: 1, protocol: HTTP, default_action: {forward: tg}}]
    target_groups: 5""",
    "the address, so the port may be free": """
    listeners: [{port: 1, protocol: HTTP, address: x}, {port: 1, protocol: HTTP}]
    target_groups: [{name: tg}]""",
    "the type, so the protocol may fit": """
    type: netwrk
    listeners: [{port: 1, protocol: TCP}]
    target_groups: [{name: tg}]""",
    "the action, but there is one": """
    listeners: [{port: 1, protocol: HTTP, default_action: {froward: tg}}]
    target_groups: [{name: tg}, {name: tg-2}]""",
    "the condition, but there is one": """
    listeners: [{port: 1, protocol: HTTP, rules: [{priority: 1, conditions: {path: []}, action: {forward: tg}}]}]
    target_groups: [{name: tg}]""",
    "the certificate, so a listener that names it may be right": """
    listeners: [{port: 1, protocol: HTTPS, certificate: dev}]
    target_groups: [{name: tg}]
certificates: [{name: [dev], self_signed: [localhost]}]""",
    "where DNS listens, so somebody may ask": """
    target_groups: []
service_discovery: {namespaces: [{name: services}]}
dns: {lisen: 127.0.0.1}""",
}


@pytest.mark.parametrize("text", IN_DOUBT.values(), ids=IN_DOUBT)
def test_what_follows_from_a_mistake_is_not_a_second_one(text: str) -> None:
    assert len(mistakes(f"load_balancer:\n    name: lb{text}\n")) == 1


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("admin: {listen: 0.0.0.0:9900}", "admin.listen", "asks for no password"),
        ("service_discovery: {namespaces: [{name: a}]}", "service_discovery.namespaces", "nobody can ask"),
        ("load_balancer: {name: lb, vpc: v}", "load_balancer.vpc", "there is no network: section"),
        (
            "security: {security_groups: {web-sg: {ingress: [{protocol: all, source: web}]}}}",
            "security.security_groups.web-sg.ingress[0].source",
            'did you mean "web-sg"?',
        ),
        (
            "security: {network_acls: {a: {inbound: [{number: 1, protocol: all, source: 0.0.0.0/0, action: allow}]}}}",
            "security.network_acls.a.outbound",
            "an ACL remembers no connections",
        ),
    ],
)
def test_what_may_be_meant_is_a_warning(text: str, path: str, words: str) -> None:
    [warning] = warnings(text)
    assert warning.startswith(f"{path}: ")
    assert words in warning


def test_traps_of_yaml_do_what_a_reader_expects() -> None:
    found = loaded("""
    network:
      vpc: {name: v, cidr: 10.0.0.0/16, region: no}
      subnets: [{name: a, cidr: 10.0.1.0/24, public: no}, {name: b, cidr: 10.0.2.0/24, public: yes}]
    load_balancer:
      name: on
      listeners:
        - port: 08080
          protocol: HTTP
          rules: [{priority: 012, conditions: {header: {x-time: 22:22, x-canary: [no, off]}}, action: {forward: tg}}]
      target_groups: [{name: tg, tags: {built: 2026-11-20}}]
    """)
    network = found.configuration.network
    assert network is not None
    assert network.vpc.region == "no"
    assert [subnet.public for subnet in network.subnets] == [False, True]
    [listener] = found.settings.proxy.listeners
    assert (listener.load_balancer, listener.port) == ("on", 8080)
    [rule] = listener.rules
    assert rule.priority == 12
    assert rule.conditions.header == (("x-time", ("22:22",)), ("x-canary", ("no", "off")))


def test_description_and_tags_may_stand_everywhere() -> None:
    more = "description: d, tags: {a: b}"
    text = """
    description: all of it
    tags: {a: b}
    network: {MORE, vpc: {name: v, cidr: 10.0.0.0/8, MORE}, subnets: [{name: s, cidr: 10.0.0.0/24, MORE}]}
    load_balancer:
      name: lb
      description: d
      listeners:
        - port: 1
          protocol: HTTP
          tags: {}
          rules: [{priority: 1, MORE, conditions: {path: /}, action: {forward: tg}}]
      target_groups: [{name: tg, MORE, health_check: {MORE}, targets: [{ip: 10.0.0.1, port: 1, MORE}]}]
    certificates: [{name: c, self_signed: [a], MORE}]
    security:
      security_groups: {g: {MORE, ingress: [{protocol: all, source: 0.0.0.0/0, MORE}], egress: []}}
      network_acls:
        a: {MORE, inbound: [{number: 1, protocol: all, source: 0.0.0.0/0, action: deny, MORE}], outbound: []}
    service_discovery:
      namespaces: [{name: n, MORE, services: [{name: s, MORE, instances: [{ip: 10.0.0.1, MORE}]}]}]
    dns: {listen: 127.0.0.1}
    """
    assert not mistakes(text.replace("MORE", more))


def test_both_spellings_of_load_balancers_are_read() -> None:
    found = settings("""
    load_balancer: {name: one, listeners: [{port: 1, protocol: HTTP}], target_groups: [{name: a}]}
    load_balancers:
      - {name: two, listeners: [{port: 2, protocol: HTTP}], target_groups: [{name: b}]}
      - {name: three, type: network, listeners: [{port: 3, protocol: TCP}], target_groups: [{name: c}]}
    """)
    assert [listener.load_balancer for listener in found.proxy.listeners] == ["one", "two", "three"]


def test_the_log_needs_its_directory(tmp_path: Path) -> None:
    [mistake] = mistakes("access_log: {file: logs/access.log}", tmp_path)
    assert mistake == f"access_log.file: there is no directory {tmp_path / 'logs'}: make it, or choose another"
    (tmp_path / "logs").mkdir()
    assert not mistakes("access_log: {file: logs/access.log}", tmp_path)


def test_thousands_of_mistakes_are_found_in_reasonable_time() -> None:
    # 2,000 unknown names against 2,000 known ones: looking for what was meant stops before it takes minutes.
    groups = "".join(f"    - {{name: group-{i}}}\n" for i in range(2000))
    rules = "".join(
        f"        - {{priority: {i + 1}, conditions: {{path: /{i}}}, action: {{forward: gruop-{i}}}}}\n"
        for i in range(2000)
    )
    head = "load_balancer:\n  name: lb\n  target_groups:\n"
    listener = (
        "  listeners:\n    - port: 1\n      protocol: HTTP\n      default_action: {forward: group-1}\n      rules:\n"
    )
    found = mistakes(head + groups + listener + rules)
    assert len(found) == 2000
    assert 'did you mean "group-0"?' in found[0]
    assert found[-1].endswith('no target group is named "gruop-1999"')


def test_authorities_of_targets_are_read_beside_the_file(tmp_path: Path) -> None:
    _, chain = key_and_certificate()
    (tmp_path / "origin.pem").write_bytes(chain)
    text = """\
load_balancer:
  name: lb
  listeners: [{port: 8080, protocol: HTTP, address: 127.0.0.1}]
  target_groups: [{name: tg, protocol: HTTPS, port: 8443, tls: {ca_file: origin.pem}, targets: [{ip: 10.0.1.10}]}]
"""
    (tmp_path / "penstock.yaml").write_text(text)
    found = load(tmp_path / "penstock.yaml", now=NOW, materialize=False)
    assert found.settings.proxy.target_groups[0].tls.ca_pem == chain
