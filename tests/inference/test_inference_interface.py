"""Our .proto text is the interface that NVIDIA's clients were generated from: names, numbers and types."""

import base64

from builders.triton import with_tritonclient
from statewise.inference import model_config_pb2, open_inference_pb2

COMPARED = """
import base64
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

theirs = {}
for module in (service_pb2, model_config_pb2):
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    theirs |= {m.name: m for m in file.message_type} | {e.name: e for e in file.enum_type} | {s.name: s for s in file.service}

def fields(message):
    return {(f.name, f.number, f.type, f.label, f.type_name, f.HasField("oneof_index")) for f in message.field}

def values(enum):
    return {(v.name, v.number) for v in enum.value}

def methods(service):
    return {(m.name, m.input_type, m.output_type, m.client_streaming, m.server_streaming) for m in service.method}

def strangers(ours, theirs, path):
    found = [(path, each[0]) for each in fields(ours) - fields(theirs)]
    inner = {m.name: m for m in theirs.nested_type}
    for message in ours.nested_type:
        found += strangers(message, inner[message.name], f"{path}.{message.name}")
    enums = {e.name: e for e in theirs.enum_type}
    for enum in ours.enum_type:
        found += [(path, each) for each in values(enum) - values(enums[enum.name])]
    return found

found, count = [], 0
for raw in told["files"]:
    file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(raw))
    assert file.package == "inference"
    for message in file.message_type:
        count += len(message.field)
        found += strangers(message, theirs[message.name], message.name)
    for enum in file.enum_type:
        found += [(enum.name, each) for each in values(enum) - values(theirs[enum.name])]
    for service in file.service:
        found += [(service.name, each[0]) for each in methods(service) - methods(theirs[service.name])]
print(json.dumps([found, count]))
"""


def test_every_field_and_method_is_the_interfaces(server):
    """Each has the name, the number and the type that tritonclient's own messages have; those that we leave out are skipped."""
    files = [module.DESCRIPTOR.serialized_pb for module in (open_inference_pb2, model_config_pb2)]
    encoded = [base64.b64encode(raw).decode() for raw in files]
    found, count = with_tritonclient(COMPARED, server.address, files=encoded)
    assert found == []
    assert count > 100
