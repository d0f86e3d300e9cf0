"""Filters of installed packages: found by name, looked at before they are believed, their configuration checked."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path

import pytest

from penstock.control.config import ConfigurationError, differences, load_text
from penstock.control.explain import explained, show
from penstock.control.filters import InstalledFilters, UnusableFilterError
from penstock.proxy.specs import FilterSpec

MODULE = """
    from pydantic import BaseModel, ConfigDict, Field, field_validator

    class Stamp:
        class Config(BaseModel):
            model_config = ConfigDict(extra="forbid")
            header: str
            times: int = Field(default=1, ge=1)
            mode: str = "on"

            @field_validator("mode")
            @classmethod
            def _known(cls, mode):
                if mode not in ("on", "off"):
                    raise ValueError("must be on or off")
                return mode

        def __init__(self, config):
            self.config = config

        def on_request(self, request):
            return None

    class NoConfig:
        def on_request(self, request):
            return None

    class NoPhase:
        Config = Stamp.Config

    class Crashes(Stamp):
        class Config(BaseModel):
            @classmethod
            def model_validate(cls, *_, **__):
                raise RuntimeError("a bug")

    function = print
"""
_numbers = itertools.count()  # a module that was imported stays, so each test has one of its own


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with filters, installed for one test: a module, and what pip would write down of it."""
    name = f"filters_of_a_test_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODULE))
    offers = ("stamp:Stamp", "no_config:NoConfig", "no_phase:NoPhase", "function:function", "absent:Absent")
    lines = [f"{offer.partition(':')[0]} = {name}:{offer.partition(':')[2]}" for offer in (*offers, "crashes:Crashes")]
    lines.append("missing = no_such_module_anywhere:Filter")
    _install(tmp_path, name, lines)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def _install(folder: Path, name: str, lines: list[str]) -> None:
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[penstock.http_filters]\n" + "\n".join(lines) + "\n")


def configuration(*filters: str, rule: str = "") -> str:
    listed = "\n".join(f"        - {each}" for each in filters)
    return f"""\
load_balancer:
  name: lb
  listeners:
    - port: 8080
      protocol: HTTP
      filters:
{listed}
      rules:
        - {{priority: 1, conditions: {{path: /x}}, action: {{forward: tg}}, filters: [{rule}]}}
  target_groups: [{{name: tg}}]
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, "f.yaml", directory=Path.cwd(), now=0.0)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_they_are_found_by_name(package: str) -> None:
    installed = InstalledFilters()
    assert installed["stamp"].__module__ == package
    assert {"stamp", "missing"} <= set(installed)
    assert "stamp" in installed
    assert "other" not in installed
    assert len(installed) >= 7
    with pytest.raises(KeyError):
        installed["other"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_config", "is no filter: .*:NoConfig of .* has no pydantic model named Config"),
        ("no_phase", "is no filter: .* has none of on_request, pick, on_upstream_request, on_response, on_log"),
        ("function", "is no filter: .*:function of filters_of_a_test_.* is no class"),
        ("absent", "cannot be loaded from .*:Absent of .*: AttributeError"),
        ("missing", "cannot be loaded from no_such_module_anywhere:Filter of .*: ModuleNotFoundError: No module"),
    ],
)
def test_what_cannot_be_used_says_why(package: str, name: str, why: str) -> None:
    with pytest.raises(UnusableFilterError, match=why):
        InstalledFilters()[name]


def test_a_name_that_two_packages_offer_is_nobodys(package: str, tmp_path: Path) -> None:
    _install(tmp_path, "another", [f"stamp = {package}:NoPhase"])
    with pytest.raises(UnusableFilterError, match=r"is offered by another \(.*\) and filters_of_a_test_.*uninstall"):
        InstalledFilters()["stamp"]


def test_every_mistake_has_its_place(package: str) -> None:
    found = mistakes(
        configuration(
            "{name: stam, config: {header: x}}",
            "{name: stamp, config: {headr: x, times: 0}}",
            "{name: stamp, config: {header: [x], mode: often}}",
            "{name: missing}",
            "{name: crashes, config: {a: 1}}",
            rule="{name: stamp}",
        )
    )
    assert found[1:-3] == [
        "f.yaml:8:33: load_balancer.listeners[0].filters[1].config.header: is missing and has no default",
        'f.yaml:8:34: load_balancer.listeners[0].filters[1].config.headr: unknown key, did you mean "header"?',
        "f.yaml:8:51: load_balancer.listeners[0].filters[1].config.times: must be greater than or equal to 1",
        "f.yaml:9:42: load_balancer.listeners[0].filters[2].config.header: must be a valid string",
        "f.yaml:9:53: load_balancer.listeners[0].filters[2].config.mode: must be on or off",
    ]
    place = "load_balancer.listeners[0].filters"
    assert found[0].startswith(f'f.yaml:7:18: {place}[0].name: no filter is named "stam", did you mean "stamp"?')
    assert found[-3].startswith(f"f.yaml:10:18: {place}[3].name: the filter missing cannot be loaded from")
    assert found[-2].endswith("filters[4].config: the filter crashes cannot make sense of it: RuntimeError: a bug")
    assert found[-1].endswith("rules[0].filters[0].config: is missing, and the filter stamp wants header")


def test_they_are_compiled_explained_and_compared(package: str) -> None:
    def settings(*filters: str, rule: str = "") -> object:
        return load_text(configuration(*filters, rule=rule), "f.yaml", directory=Path.cwd(), now=0.0).settings

    one = settings("{name: stamp, config: {header: x-a}}", rule="{name: stamp, config: {header: x-b, times: 2}}")
    [listener] = one.proxy.listeners  # type: ignore[attr-defined]
    assert listener.filters == (FilterSpec("stamp", '{"header": "x-a"}'),)
    assert listener.rules[0].filters == (FilterSpec("stamp", '{"header": "x-b", "times": 2}'),)
    assert "x-a" not in repr(listener.filters), "it may be a secret"
    [report] = explained(one.proxy, "GET", "http://a.example.org:8080/x", "192.0.2.1", (), None)  # type: ignore[attr-defined]
    assert report["filters"] == ("stamp", "stamp")
    assert "\nfilters   stamp, then stamp: each may change it, or answer in its place\n" in show(report)
    two = settings("{name: stamp, config: {header: secret}}")
    three = settings("{name: stamp, config: {header: secret}}", "{name: stamp, config: {header: x}}")
    assert differences(two, three) == ["listener 0.0.0.0:8080: filters stamp, stamp, was stamp"]  # type: ignore[arg-type]
    changed = [line for line in differences(one, two) if "filter" in line]  # type: ignore[arg-type]
    assert changed == ["listener 0.0.0.0:8080: filter stamp changed"]
