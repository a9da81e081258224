"""What becomes of a request, as a message. Outputs travel raw, in the model's order."""

from __future__ import annotations

from statewise.conversation import Answer
from statewise.errors import StatewiseError
from statewise.inference import open_inference_pb2 as wire
from statewise.rpc.inference.requests import Request
from statewise.rpc.inference.tensors import DATATYPES, dims

FINAL = "triton_final_response"
POSITION = "position"
REASON = "reason"


def response(request: Request, answer: Answer, row: int) -> wire.ModelInferResponse:
    """Returns the reply to a request that ran: a row of an answer."""
    reply = wire.ModelInferResponse()
    _fill(reply, request, answer, row)
    return reply


def streamed(request: Request, answer: Answer, row: int) -> wire.ModelStreamInferResponse:
    """Returns the same for a stream, where every reply is the only one to its request, and so the last."""
    made = wire.ModelStreamInferResponse()
    reply = made.infer_response
    _fill(reply, request, answer, row)
    reply.parameters[FINAL].bool_param = True
    return made


def refusal(request_id: str, position: int, problem: StatewiseError) -> wire.ModelStreamInferResponse:
    """Returns why a request of a stream failed, in band, and where its sequence stands."""
    reply = wire.ModelStreamInferResponse(error_message=str(problem))
    reply.infer_response.id = request_id
    reply.infer_response.parameters[REASON].string_param = str(problem.reason or "")
    reply.infer_response.parameters[POSITION].int64_param = position
    return reply


def _fill(reply: wire.ModelInferResponse, request: Request, answer: Answer, row: int) -> None:
    """Writes a row of an answer into a reply, in place: a message that is put into another one is copied."""
    position, raw = answer.rows[row]
    reply.model_name, reply.model_version, reply.id = request.model, request.served_version, request.request_id
    reply.parameters[POSITION].int64_param = position
    for tensor in request.returns:
        name = tensor.name
        if request.outputs and name not in request.outputs:
            continue
        time = answer.outputs[name].shape[1:2] if request.timed else ()
        reply.outputs.add(name=name, datatype=DATATYPES[tensor.dtype], shape=(1, *time, *dims(tensor.shape)))
        reply.raw_output_contents.append(raw[name])
