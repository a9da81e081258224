"""A store in Redis or Valkey, for any number of servers: a hash for each session, which expires, and a script for each change.

A script compares and sets in one go, so no two servers can both believe that they own a session. A batch is one pipeline, of
scripts for many sessions each, since a command costs this side five times what a session costs in it; where the keys of one command
must be of one slot of a cluster, each is a script's own. Epochs and positions are strings of a fixed width, which the scripts
compare as they are: Lua's numbers are exact to 2^53 only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterCrossSlotError, NoScriptError, RedisError, ResponseError

from statewise.durability import Epoch
from statewise.stores import Outcome, Put, Record, StoreError

T = TypeVar("T")
PREFIX = "statewise:session:"
CONNECTIONS = 16
TOGETHER = 32
"""Sessions of one script: so many keep Redis from others for less than a millisecond."""

_PUT = """
local outcomes = {}
for place, key in ipairs(KEYS) do
  local told, data = ARGV[2 * place - 1], ARGV[2 * place]
  local epoch, position = string.sub(told, 1, 32), string.sub(told, 33, 52)
  local create, expires = string.sub(told, 53, 53) == '1', string.sub(told, 54)
  local held = redis.call('HMGET', key, 'epoch', 'position')
  local outcome = 'STORED'
  if not held[1] then
    if not create then outcome = 'MISSING' end
  elseif held[1] ~= epoch then outcome = create and 'TAKEN' or 'OTHER_EPOCH'
  elseif held[2] > position then outcome = 'AHEAD' end
  if outcome == 'STORED' then
    redis.call('HSET', key, 'epoch', epoch, 'position', position, 'data', data)
    redis.call('PEXPIRE', key, expires)
  end
  outcomes[place] = outcome
end
return table.concat(outcomes, ' ')
"""
_TAKE_OVER = """
local held = redis.call('HMGET', KEYS[1], 'epoch', 'position', 'data')
if not held[1] then return false end
held[1] = string.format('%016x', tonumber(string.sub(held[1], 1, 16), 16) + 1) .. ARGV[1]
redis.call('HSET', KEYS[1], 'epoch', held[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return held
"""
_DELETE = """
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_NAMES = {script: hashlib.sha1(script.encode()).hexdigest() for script in (_PUT, _TAKE_OVER, _DELETE)}  # noqa: S324 (as Redis does)


class RedisStore:
    """See `Store`.

    Args:
        address: `redis://host:port/number` or `rediss://…`, with redis-py's own options as a query (`?ssl_ca_certs=…`).
        timeout_seconds: for an answer; past it nothing is known of what was asked.
    """

    def __init__(self, address: str, password: str | None, timeout_seconds: float) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            address,
            max_connections=CONNECTIONS,
            timeout=timeout_seconds,
            password=password,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),  # who asks knows when to ask again, and that nothing is known meanwhile
        )
        self._redis = redis.Redis(connection_pool=pool)
        self._together = TOGETHER

    async def start(self) -> None:
        """Asks whether the store is there and takes the scripts."""
        await self._asked(self._load())

    async def close(self) -> None:
        """Ends the connections."""
        await self._redis.aclose(close_connection_pool=True)

    async def put_many(self, puts: Sequence[Put]) -> list[Outcome]:
        """See `Store`."""
        told = await self._asked(self._put_many(puts))
        for each in told:
            if isinstance(each, Exception):
                raise StoreError(f"the store: {each}") from each
        return [Outcome(each) for each in b" ".join(told).decode().split()]

    async def get(self, key: str) -> Record | None:
        """See `Store`."""
        return _record(await self._asked(self._redis.hmget(PREFIX + key, ["epoch", "position", "data"])))

    async def take_over(self, key: str, random: int, expires_seconds: float) -> Record | None:
        """See `Store`."""
        return _record(await self._run(_TAKE_OVER, key, f"{random:016x}", _milliseconds(expires_seconds)))

    async def delete(self, key: str, epoch: Epoch | None = None) -> bool:
        """See `Store`."""
        return bool(await self._run(_DELETE, key, _text(epoch) if epoch else ""))

    async def _put_many(self, puts: Sequence[Put]) -> list[Any]:
        told = await self._pipelined(puts)
        if any(isinstance(each, ClusterCrossSlotError) for each in told):
            self._together = 1
            told = await self._pipelined(puts)
        if any(isinstance(each, NoScriptError) for each in told):  # it was started anew
            await self._load()
            told = await self._pipelined(puts)  # those that were put before are put again, which changes nothing
        return told

    async def _pipelined(self, puts: Sequence[Put]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for start in range(0, len(puts), self._together):
            together = puts[start : start + self._together]
            told: list[str | bytes] = [PREFIX + put.key for put in together]
            for put in together:
                told += (f"{_text(put.epoch)}{put.position:020d}{put.create:d}{_milliseconds(put.expires_seconds)}", put.data)
            pipeline.evalsha(_NAMES[_PUT], len(together), *told)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _run(self, script: str, key: str, *told: str | int) -> Any:
        async def run() -> Any:
            try:
                return await self._redis.evalsha(_NAMES[script], 1, PREFIX + key, *told)
            except NoScriptError:
                return await self._redis.eval(script, 1, PREFIX + key, *told)

        return await self._asked(run())

    async def _load(self) -> None:
        for script in _NAMES:
            await self._redis.script_load(script)

    async def _asked(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except ResponseError as problem:
            raise StoreError(f"the store refuses: {problem}") from problem
        except (TimeoutError, RedisError, OSError) as problem:
            raise StoreError(f"the store does not answer: {str(problem) or type(problem).__name__}") from problem


def _text(epoch: Epoch) -> str:
    return f"{epoch.counter:016x}{epoch.random:016x}"


def _milliseconds(expires_seconds: float) -> int:
    return max(1, round(expires_seconds * 1000))


def _record(held: Sequence[Any] | None) -> Record | None:
    """Returns the record of what was told, bytes each; `None` where there is none."""
    if not held or not held[0]:
        return None
    epoch, position, data = held
    return Record(Epoch(int(epoch[:16], 16), int(epoch[16:], 16)), int(position), data)
