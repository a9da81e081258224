"""P8: sessions stay on the version that they were opened with; new ones get what the repository says, without a restart."""

import asyncio

import pytest

from builders.summing import SPECS, serving, summing
from statewise.client import AsyncClient
from statewise.config import Limits
from statewise.errors import EngineFailed, ModelUnknown, Overloaded
from statewise.host import Open
from statewise.repository import MODEL_FILE


def version_of(opened):
    return opened.model.version


async def test_a_promotion_holds_from_the_next_session_on_and_a_rollback_undoes_it():
    """300 live sessions see neither: they step on without an error, each on the version that it was opened with."""
    async with serving() as served, AsyncClient(served.address) as client:
        repository = served.host.models.repository
        sessions = [await client.open_session("sum") for _ in range(150)]
        repository.promote("sum", 4)
        sessions += [await client.open_session("sum") for _ in range(150)]
        await asyncio.gather(*(session.step([1, 1]) for session in sessions))
        repository.rollback("sum")
        await served.host.models.refresh()
        totals = await asyncio.gather(*(session.step([1, 1]) for session in sessions))
        assert [total.tolist() for total in totals] == [[2, 2]] * 300
        assert [session.model.version for session in sessions] == [3] * 150 + [4] * 150
        assert (await client.open_session("sum")).model.version == 3


async def test_sessions_of_a_retiring_version_are_told_in_band_and_it_leaves_memory_with_the_last():
    """Replies say `retiring`; when the last session has closed, the version is gone from memory and its files stay."""
    async with serving() as served, AsyncClient(served.address) as client:
        models = served.host.models
        session = await client.open_session("sum")
        models.repository.promote("sum", 4)
        await models.refresh()
        await session.step([1, 1])
        assert session.retiring
        assert ("sum", 3) in models.ready
        await session.close()
        await models.refresh()
        assert ("sum", 3) not in models.ready
        assert models.repository.versions("sum") == [3, 4, 8]
        assert (await client.open_session("sum", version=3)).model.version == 3, "it can be had again by its number"


async def test_versions_of_like_states_share_a_pool():
    """A new version reserves no second pool, and its sessions take rows of the same one."""
    async with summing() as made:
        await made.host.open(Open("sum", version=3))
        await made.host.open(Open("sum", version=4))
        ready = made.host.models.ready
        assert ready["sum", 3].pool is ready["sum", 4].pool
        assert ready["sum", 3].pool is not ready["tokens", 3].pool


async def test_a_canary_gets_its_share_by_the_hash_of_the_session_id():
    """About a tenth of the ids get it, and the same id gets the same version every time."""
    async with summing() as made:
        made.host.models.repository.set_canary("sum", 4, 0.1)
        first = [version_of(await made.host.open(Open("sum", session_id=f"s{number}"))) for number in range(1000)]
        for number in range(1000):
            await made.host.close(f"s{number}")
        again = [version_of(await made.host.open(Open("sum", session_id=f"s{number}"))) for number in range(1000)]
        assert first == again
        assert 60 < first.count(4) < 140
        assert set(first) == {3, 4}


async def test_a_new_version_is_found_without_a_restart():
    """Without serving.json the newest is what new sessions get, from the moment its folder is there."""
    async with summing() as made:
        root = made.host.models.repository.root
        (root / "sum" / "serving.json").unlink()
        assert version_of(await made.host.open(Open("sum"))) == 8
        (root / "sum" / "9").mkdir()
        (root / "sum" / "9" / MODEL_FILE).write_bytes(b"sum")
        assert version_of(await made.host.open(Open("sum"))) == 9


async def test_a_broken_serving_file_is_an_error_for_new_sessions_only():
    """Sessions that are open step on; an open is refused with the file's name; the mended file is followed at once."""
    async with serving() as served, AsyncClient(served.address) as client:
        repository = served.host.models.repository
        session = await client.open_session("sum")
        (repository.root / "sum" / "serving.json").write_text("{")
        await served.host.models.refresh()
        with pytest.raises(ModelUnknown, match=r"serving\.json"):
            await client.open_session("sum")
        assert (await session.step([1, 1])).tolist() == [1, 1]
        (repository.root / "sum" / "serving.json").unlink()
        repository.promote("sum", 4)
        assert (await client.open_session("sum")).model.version == 4


async def test_a_load_that_would_break_the_memory_budget_is_refused():
    """What is served goes on being served, and the refusal says how much is missing."""
    one_pool = 8 * (2 + 2 * 1000 + 4 * 256)
    async with summing(limits=Limits(sessions=1000, memory_bytes=one_pool + 100)) as made:
        assert sorted(name for name, _ in made.host.models.ready) == ["clocked", "sum"]
        with pytest.raises(EngineFailed, match="does not fit"):
            await made.host.open(Open("tokens"))
        assert version_of(await made.host.open(Open("sum"))) == 3


async def test_when_all_sessions_are_taken_newcomers_are_refused_and_the_others_step():
    """OVERLOADED with a time to wait; who is in stays in."""
    async with serving(limits=Limits(sessions=3)) as served, AsyncClient(served.address) as client:
        sessions = [await client.open_session("sum") for _ in range(3)]
        with pytest.raises(Overloaded) as refused:
            await client.open_session("sum")
        assert refused.value.retry_after_seconds == 1.0
        assert [(await session.step([1, 1])).tolist() for session in sessions] == [[1, 1]] * 3
        await sessions[0].close()
        await client.open_session("sum")


async def test_the_models_can_be_asked_for():
    """ListModels and GetModel tell versions, which of them are in memory, sessions on them, and the limits."""
    from statewise.v1 import model_pb2, model_pb2_grpc

    async with serving() as served, AsyncClient(served.address) as client:
        await client.open_session("sum")
        served.host.models.repository.set_canary("sum", 8, 0.5)
        stub = model_pb2_grpc.ModelServiceStub(client._channel)
        listed = await stub.ListModels(model_pb2.ListModelsRequest())
        assert [summary.name for summary in listed.models] == sorted(SPECS)
        told = await stub.GetModel(model_pb2.GetModelRequest(name="sum", version=3))
        assert (told.model.version, told.summary.default_version, told.summary.canary_version) == (3, 3, 8)
        first = told.summary.versions[0]
        assert (first.version, first.ready, first.sessions) == (3, True, 1)
        assert told.limits.sessions == Limits().sessions
        assert told.limits.retained_replies == 16
