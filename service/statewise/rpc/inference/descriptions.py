"""What models take and return, and what the server has, in the protocol's words."""

from __future__ import annotations

from importlib.metadata import version

from statewise.config import Limits
from statewise.host import Host
from statewise.inference import model_config_pb2 as config
from statewise.inference import open_inference_pb2 as wire
from statewise.models import Served
from statewise.repository import RepositoryError
from statewise.rpc.inference.tensors import DATATYPES, dims
from statewise.spec import ConstantSpec, DType, ModelSpec, StateSpec, TensorSpec
from statewise.statistics import Spent

NAME = "statewise"
PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
EXTENSIONS = ("sequence", "sequence(string_id)", "parameters", "model_configuration", "statistics", "model_repository")
READY, UNAVAILABLE = "READY", "UNAVAILABLE"


def server() -> wire.ServerMetadataResponse:
    """Returns what the server is."""
    return wire.ServerMetadataResponse(name=NAME, version=version(NAME), extensions=EXTENSIONS)


def metadata(served: Served, versions: list[int]) -> wire.ModelMetadataResponse:
    """Returns what a model takes and returns; -1 stands for the batch."""
    return wire.ModelMetadataResponse(
        name=served.name,
        versions=list(map(str, versions)),
        platform=PLATFORM,
        inputs=[*map(_metadata, served.spec.inputs), *map(_metadata, served.spec.constants)],
        outputs=[_metadata(tensor) for tensor in served.spec.outputs],
    )


def configuration(served: Served, limits: Limits) -> config.ModelConfig:
    """Returns a model's configuration. `max_batch_size` is of an engine run; a request of a sequence has a batch of 1."""
    spec = served.spec
    return config.ModelConfig(
        name=served.name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=limits.batch,
        input=[*map(_input, spec.inputs), *map(_constant, spec.constants)],
        output=[config.ModelOutput(name=each.name, data_type=_type(each.dtype), dims=dims(each.shape)) for each in spec.outputs],
        sequence_batching=_batching(spec, limits),
        model_transaction_policy=config.ModelTransactionPolicy(decoupled=False),
        parameters={"statewise_max_timesteps": config.ModelParameter(string_value=str(limits.timesteps))},
    )


def index(host: Host, *, ready_only: bool) -> wire.RepositoryIndexResponse:
    """Returns every version of every model: READY, UNAVAILABLE and why, or no state where nothing has asked for it yet."""
    models = host.models
    entries = []
    for name in models.repository.models():
        try:
            versions = models.repository.versions(name)
        except RepositoryError:  # it has gone since
            continue
        whole = models.refused.get((name, 0), "")
        for number in versions:
            why = models.refused.get((name, number), whole)
            state = READY if (name, number) in models.ready else UNAVAILABLE if why else ""
            if state == READY or not ready_only:
                reason = "" if state == READY else why
                entries.append(wire.RepositoryIndexResponse.ModelIndex(name=name, version=str(number), state=state, reason=reason))
    return wire.RepositoryIndexResponse(models=entries)


def statistics(served: Served) -> wire.ModelStatistics:
    """Returns what a model version has done. Putting inputs together and outputs apart is part of a run, so it is told as 0."""
    done = served.statistics
    return wire.ModelStatistics(
        name=served.name,
        version=str(served.version),
        last_inference=round(done.last_seconds * 1e3),
        inference_count=done.answered.count,
        execution_count=sum(spent.count for spent in done.runs.values()),
        inference_stats=wire.InferStatistics(
            success=_duration(done.answered),
            fail=_duration(done.failed),
            queue=_duration(done.queued),
            compute_input=wire.StatisticDuration(count=done.computed.count),
            compute_infer=_duration(done.computed),
            compute_output=wire.StatisticDuration(count=done.computed.count),
            cache_hit=wire.StatisticDuration(),
            cache_miss=wire.StatisticDuration(),
        ),
        batch_stats=[
            wire.InferBatchStatistics(
                batch_size=size,
                compute_input=wire.StatisticDuration(count=spent.count),
                compute_infer=_duration(spent),
                compute_output=wire.StatisticDuration(count=spent.count),
            )
            for size, spent in sorted(done.runs.items())
        ],
    )


def _duration(spent: Spent) -> wire.StatisticDuration:
    return wire.StatisticDuration(count=spent.count, ns=round(spent.seconds * 1e9))


def _metadata(tensor: TensorSpec | ConstantSpec) -> wire.ModelMetadataResponse.TensorMetadata:
    return wire.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=DATATYPES[tensor.dtype], shape=(-1, *dims(tensor.shape))
    )


def _input(tensor: TensorSpec) -> config.ModelInput:
    return config.ModelInput(name=tensor.name, data_type=_type(tensor.dtype), dims=dims(tensor.shape))


def _constant(constant: ConstantSpec) -> config.ModelInput:
    """Returns what the first request of a sequence may bring, or must; the others bring none."""
    return config.ModelInput(name=constant.name, data_type=_type(constant.dtype), dims=dims(constant.shape), optional=True)


def _batching(spec: ModelSpec, limits: Limits) -> config.ModelSequenceBatching:
    return config.ModelSequenceBatching(
        max_sequence_idle_microseconds=round(limits.idle_timeout_seconds * 1e6),
        oldest=config.ModelSequenceBatching.StrategyOldest(max_candidate_sequences=limits.sessions),
        state=[_state(state) for state in spec.states],
    )


def _state(state: StateSpec) -> config.ModelSequenceBatching.State:
    kind, shape = _type(state.dtype), dims(state.shape)
    told = config.ModelSequenceBatching.State(input_name=state.input, output_name=state.output, data_type=kind, dims=shape)
    if state.initial == 0 and state.given != "must":
        told.initial_state.add(name=state.input, data_type=kind, dims=shape, zero_data=True)
    return told


def _type(dtype: DType) -> str:
    """Returns the name of a member of DataType, which messages take for it."""
    return f"TYPE_{DATATYPES[dtype]}"
