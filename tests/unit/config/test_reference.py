"""configs/reference.yaml holds every key there is, and every default that it claims is the default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from penstock.control.config.models import Configuration
from penstock.control.config.yaml_source import Node, parse

FILE = Path(__file__).parents[3] / "configs" / "reference.yaml"
TEXT = FILE.read_text()
LINES = TEXT.split("\n")


def model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_in, get_args(annotation))), None)


def fields_in_file(node: Node, model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str, FieldInfo, int, Any]]:
    """Every key of the file that is a field of a model: the model, the field, the key's line, and what is written."""
    if node.items is not None:
        for item in node.items:
            yield from fields_in_file(item, model)
    for key, entry in (node.entries or {}).items():
        field = model.model_fields.get(key)
        if field is not None:
            yield model, key, field, entry.line, entry.node.data
            inner = model_in(field.annotation)
            if inner is not None:
                yield from fields_in_file(entry.node, inner)
        else:  # the names of security groups and network ACLs
            yield from fields_in_file(entry.node, model)


FOUND = list(fields_in_file(parse(TEXT, FILE.name).root, Configuration))


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if (inner := model_in(field.annotation)) is not None:
            yield from models(inner)


def test_every_key_is_in_it() -> None:
    there = {(model, key) for model, key, _, _, _ in FOUND}
    everywhere = {"description", "tags"}
    missing = {
        f"{model.__name__}.{key}"
        for model in models(Configuration)
        for key in model.model_fields
        if (model, key) not in there and key not in everywhere
    }
    # In comments, since the files would have to be there.
    in_comments = {
        "Certificate.cert_file",
        "Certificate.key_file",
        "TargetTls.ca_file",
        "ClientCertificates.ca_file",
        "ClientCertificates.crl_file",
    }
    in_comments |= {"Filter.name", "Filter.config"}  # nor are filters installed
    assert missing == in_comments
    assert "# ca_file: authorities.pem" in TEXT
    assert "# ca_file: clients.pem" in TEXT
    assert "# crl_file: revoked.pem" in TEXT
    assert "# - name: whoami" in TEXT
    assert "#   config: {header: x-whoami}" in TEXT
    assert "cert_file: www.pem, key_file: www.key" in TEXT


def comment(line: int) -> str:
    _, _, said = LINES[line - 1].partition(" # ")
    return said


@pytest.mark.parametrize(
    ("field", "line", "written"),
    [
        pytest.param(*found[2:], id=f"{found[3]}-{found[1]}")
        for found in FOUND
        if comment(found[3]).startswith(("default", "required"))
    ],
)
def test_what_it_says_of_a_default_is_so(field: FieldInfo, line: int, written: Any) -> None:
    said = comment(line)
    if said.startswith("required"):
        # "required for ..." depends on something else in the file.
        assert field.is_required() or said.startswith("required for"), f"line {line}"
    elif said.startswith("default:"):
        assert not field.is_required(), f"line {line}"
    elif field.default is not None:  # a default of None is worked out elsewhere: what is written is what comes of it
        written_out: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        assert TypeAdapter(written_out).validate_python(written) == field.default, f"line {line}"
