"""docs/protocol.md says what the code does: those who write a client in another language have only the page."""

import re
from pathlib import Path

import numpy as np
import pytest

from statewise.config import Limits, ServeSettings
from statewise.errors import CLASS_OF_REASON, Reason
from statewise.rpc.status import CODE_OF_REASON, DOMAIN
from statewise.tensors import decode, encode
from statewise.v1 import model_pb2, sequence_pb2, tensor_pb2

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def section(title):
    """Returns the text below a heading of the page, up to the next."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def table(text):
    """Returns the rows of a table as lists of cells, the heading first."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if not set("".join(row)) <= set("-:")]


def test_the_error_table_is_the_codes():
    """Every reason is on the page once, with the code that travels and the class that the Python client raises."""
    heading, *rows = table(section("Errors"))
    assert heading[:3] == ["reason", "code", "Python"]
    told = [(reason, code, kind) for reason, code, kind, *_ in rows]
    assert told == [(reason.value, CODE_OF_REASON[reason].name, CLASS_OF_REASON[reason].__name__) for reason in Reason]


def test_the_error_table_tells_every_client_what_to_do():
    """No row is left without advice."""
    assert all(len(row) == 4 and row[3] for row in table(section("Errors")))


def test_the_domain_is_the_one_that_travels():
    """ErrorInfo bears the domain that the page names."""
    assert f"domain\n`{DOMAIN}`" in PAGE or f"domain `{DOMAIN}`" in PAGE


def test_the_golden_tensor_is_what_is_written():
    """The bytes of the page's example are those that the server writes and reads."""
    text = section("Tensors")
    shape = [int(length) for length in re.search(r"float32 tensor of shape `\[([\d, ]+)\]`", text)[1].split(",")]
    values = [float(value.replace("−", "-")) for value in re.findall(r"(?<![\w`])−?\d+\.\d+", text)]
    written = bytes.fromhex(re.search(r"```\n(.*?)```", text, re.DOTALL)[1])
    array = np.array(values, np.float32).reshape(shape)
    assert encode("x", array).data == written
    golden = tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=shape, data=written)
    np.testing.assert_array_equal(decode(golden), array)


def test_the_methods_are_the_services():
    """The page names every method of the service, and no more."""
    service = sequence_pb2.DESCRIPTOR.services_by_name["SequenceService"]
    assert service.full_name in PAGE
    named = set(re.findall(r"`([A-Z][a-z]\w+)(?:\{[^`]*)?`", section("A conversation")))
    assert named == {method.name for method in service.methods}


def test_what_is_sent_ahead_and_given_at_open_has_the_pages_names():
    """What the page calls a field is one, in the message that it speaks of."""
    assert "ahead" in model_pb2.TensorSpec.DESCRIPTOR.fields_by_name
    assert "`ahead`" in section("Inputs known ahead")
    text = section("Values given at Open")
    for message, fields in (
        (model_pb2.ModelSpec, ["constants"]),
        (model_pb2.ConstantSpec, ["required", "positive"]),
        (model_pb2.GetModelResponse, ["series"]),
        (sequence_pb2.OpenSessionRequest, ["constants", "mode"]),
    ):
        for field in fields:
            assert field in message.DESCRIPTOR.fields_by_name
            assert re.search(rf"`(?:\w+\.)?{field}`", text), field


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (r"sessions open \(([\d,]+)\)", Limits().sessions),
        (r"steps pending \(([\d,]+)\)", Limits().pending_steps),
        (r"timesteps of a step \(([\d,]+)\)", Limits().timesteps),
        (r"bytes of a message \((\d+) MiB\)", ServeSettings.model_fields["max_message_bytes"].default // 2**20),
        (r"idle timeout \((\d+) minutes", Limits().idle_timeout_seconds // 60),
    ],
)
def test_the_limits_are_the_defaults(words, value):
    """A limit on the page is what a server takes that was told nothing."""
    assert int(re.search(words, PAGE)[1].replace(",", "")) == value


def test_the_links_lead_somewhere():
    """A file that the page names is there."""
    folder = Path(__file__).parents[2] / "docs"
    for link in re.findall(r"\]\((?!http)([^)#]+)", PAGE):
        assert (folder / link).exists(), link
