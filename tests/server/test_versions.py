"""P8: sessions stay on the version that they were opened with; new ones get what the repository says, without a restart."""

import asyncio
import shutil

import numpy as np
import pytest
import structlog
from prometheus_client import generate_latest

from builders.asking import Listener
from builders.summing import ALL, SPECS, SummingEngine, serving, summing
from statewise.client import AsyncClient
from statewise.config import Limits
from statewise.conversation import Step
from statewise.errors import EngineFailed, ModelUnknown, Overloaded
from statewise.opening import Open
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


async def test_live_sessions_see_no_error_while_versions_are_swapped_under_them():
    """300 sessions of a coalescing client step without a pause through a promotion, a rollback and another promotion."""
    async with serving(on_loop=ALL) as served, AsyncClient(served.address) as client:
        models, stop, told = served.host.models, asyncio.Event(), {3: set(), 4: set()}

        async def live(session, version):
            steps = 0
            while not stop.is_set() or steps < 3:
                steps += 1
                assert (await session.step([1, 2])).tolist() == [steps, 2 * steps]
                assert session.model.version == version
                told[version].add(session.retiring)
            return steps

        sessions, living = [], []
        for version, swap in ((3, lambda: None), (4, lambda: models.repository.promote("sum", 4))):
            swap()
            await models.refresh()
            opened = [await client.open_session("sum") for _ in range(150)]
            living += [asyncio.create_task(live(session, version)) for session in opened]
            sessions += opened
        for swap in (lambda: models.repository.rollback("sum"), lambda: models.repository.promote("sum", 4)):
            swap()
            await models.refresh()
            for _ in range(20):
                await sessions[0].snapshot()  # the others step meanwhile
        stop.set()
        steps = await asyncio.gather(*living)
        assert min(steps) >= 3
        assert told == {3: {True, False}, 4: {True, False}}, "each was told when it was retiring, and when it was not"
        assert len(served.host.sessions) == 300


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


async def test_a_model_whose_folder_is_deleted_retires_and_its_sessions_step_on():
    """Live sessions are told and go on; new ones are refused by name; with the last session all of it leaves memory."""
    async with serving(alone=True) as served, AsyncClient(served.address) as client:
        models = served.host.models
        session, other = await client.open_session("sum"), await client.open_session("clocked")
        shutil.rmtree(models.repository.root / "sum")
        await models.refresh()
        assert (await session.step([1, 1])).tolist() == [1, 1]
        assert session.retiring
        assert not other.retiring
        with pytest.raises(ModelUnknown, match="'sum'"):
            await client.open_session("sum")
        assert (await session.fork()).position == 1, "what is copied is there"
        served.host.sessions.expire(1e9)
        await models.refresh()
        assert [key for key in models.ready if key[0] == "sum"] == []
        exposed = generate_latest(served.host._metrics.registry).decode()
        assert 'model="sum"' not in exposed
        assert 'model="clocked"' in exposed


async def test_a_version_whose_folder_is_replaced_goes_on_as_it_was_loaded():
    """Sessions and new sessions stay with what is in memory; when it has left, what lies there now is loaded."""
    async with summing(alone=True) as made:
        models = made.host.models
        folder = models.repository.root / "sum" / "3"
        before = (await made.host.open(Open("sum", session_id="a"))).model
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / MODEL_FILE).write_bytes(b"longer than before")
        await models.refresh()
        assert (await made.host.open(Open("sum", session_id="b"))).model is before
        models.repository.promote("sum", 4)
        for name in "ab":
            await made.host.close(name)
        await models.refresh()
        models.repository.promote("sum", 3)
        await models.refresh()
        after = (await made.host.open(Open("sum"))).model
        assert (before.loaded.parameters_bytes, after.loaded.parameters_bytes) == (3, 18)


async def test_what_stays_broken_is_told_once():
    """A serving.json that cannot be read is logged when it breaks, and not once a second."""
    async with summing(alone=True) as made:
        models = made.host.models
        file = models.repository.root / "sum" / "serving.json"
        mended = file.read_text()
        for _ in range(2):
            file.write_text("{")
            with structlog.testing.capture_logs() as logs:
                for _ in range(5):
                    await models.refresh()
            assert len([entry for entry in logs if entry["log_level"] == "error"]) == 1
            file.write_text(mended)
            await models.refresh()
            assert models.refused == {}


@pytest.mark.parametrize("fault", [MemoryError("no memory for its states"), KeyError("x"), RuntimeError("onnx")])
async def test_a_version_that_cannot_be_loaded_for_whatever_reason_harms_no_other(fault):
    """It is refused with the reason, to whoever asks for it; the others are served, and the repository is followed."""

    def make(spec):
        if spec is SPECS["tokens"]:
            raise fault
        return SummingEngine(spec)

    async with summing(make=make, alone=True) as made:
        assert sorted({name for name, _ in made.host.models.ready}) == ["clocked", "given", "sum"]
        with pytest.raises(EngineFailed, match=type(fault).__name__):
            await made.host.open(Open("tokens"))
        made.host.models.repository.promote("sum", 4)
        await made.host.models.refresh()
        assert ("sum", 4) in made.host.models.ready


async def test_versions_that_come_and_go_leave_nothing_behind():
    """Forty versions are published, used, retired and deleted: no pool, no count and no metric of theirs remains."""
    async with summing(alone=True) as made:
        host, root = made.host, made.host.models.repository.root

        def held():
            lines = generate_latest(host._metrics.registry).decode().splitlines()
            tables = (host.sessions._pools, host.sessions._sessions_of_model, host.sessions.replies._models, host.models._serving)
            return len([line for line in lines if not line.startswith("#") and "tokens" in line]), *map(len, tables)

        opened = await host.open(Open("tokens"))
        await host.close(opened.session_id)
        before = held()
        for version in range(100, 140):
            (root / "tokens" / str(version)).mkdir()
            (root / "tokens" / str(version) / MODEL_FILE).write_bytes(b"sum")
            host.models.repository.promote("tokens", version)
            await host.models.refresh()
            opened = await host.open(Open("tokens"))
            listener = Listener()
            host.step(Step(opened.session_id, {"token": np.ones(1, np.int32)}), listener, 0)
            await made.until(1)
            await made.until(0)
            await host.close(opened.session_id)
            if version > 100:
                shutil.rmtree(root / "tokens" / str(version - 1))
        host.models.repository.promote("tokens", 3)
        shutil.rmtree(root / "tokens" / "139")
        await host.models.refresh()
        assert held() == before
