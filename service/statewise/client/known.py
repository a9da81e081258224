"""What a session of either client tells of itself."""

from __future__ import annotations

from statewise.client.described import Model
from statewise.client.exchange import Exchange


class Known:
    """A session as far as its client knows it, without asking the server."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.model.name}@{self.model.version} at {self.position}>"

    @property
    def id(self) -> str:
        """The name by which the server knows the session."""
        return self._exchange.session_id

    @property
    def model(self) -> Model:
        """The model version that the session is pinned to, with its inputs and outputs."""
        return self._exchange.model

    @property
    def position(self) -> int:
        """How many timesteps the session has consumed, as far as answers tell."""
        return self._exchange.position

    @property
    def durable_position(self) -> int:
        """Up to which position the store holds the session, as far as answers tell; 0 in memory."""
        return self._exchange.durable_position

    @property
    def retiring(self) -> bool:
        """Whether new sessions get another version of the model: open a new session when it suits."""
        return self._exchange.retiring
