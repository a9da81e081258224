"""The client: open a session, step it, close it. NumPy in, NumPy out.

    with Client("127.0.0.1:8001") as client, client.open_session("demand") as session:
        y = session.step([31_900.0], time=533_003)

`AsyncClient` is the same with `await`. Errors are the classes of `statewise.errors`.
"""

from statewise.client.asynchronous import AsyncClient, AsyncSession
from statewise.client.described import Model
from statewise.client.synchronous import Client, Session

__all__ = ["AsyncClient", "AsyncSession", "Client", "Model", "Session"]
