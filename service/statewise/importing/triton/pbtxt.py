"""Protobuf's text form as plain values. Triton's schema is not needed: what is read is asked for, and what is left is listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import text_format

from statewise.importing.problems import Refused


class Fields:
    """The fields of a message; it remembers which were asked for."""

    def __init__(self, values: dict[str, list[Any]], path: str = "") -> None:
        self._values = values
        self._path = path
        self._left = dict.fromkeys(values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def all(self, name: str) -> list[Any]:
        """Returns all values of a field: numbers, words and strings as such, messages as `Fields`."""
        self._left.pop(name, None)
        return self._values.get(name, [])

    def one(self, name: str, default: Any = None) -> Any:
        """Returns the last value of a field, which is the one that counts."""
        return (self.all(name) or [default])[-1]

    def inside(self, name: str) -> Fields:
        """Returns the message in a field, an empty one if it is absent."""
        return self.one(name) if name in self._values else Fields({})

    def left(self) -> Iterator[str]:
        """Yields the paths of the fields that nobody asked for."""
        yield from (self._path + name for name in self._left)
        for name, values in self._values.items():
            if name not in self._left:
                for value in values:
                    if isinstance(value, Fields):
                        yield from value.left()


def parse(text: str, source: str) -> Fields:
    """Reads protobuf's text form; raises `Refused` naming the line that cannot be read."""
    tokens = text_format.Tokenizer(text.splitlines())
    try:
        return _message(tokens, "", "")
    except text_format.ParseError as error:
        raise Refused(f"{source}, line {error.GetLine()}: {str(error).partition(' : ')[2] or error}") from error


def _message(tokens: Any, end: str, path: str) -> Fields:
    values: dict[str, list[Any]] = {}
    while not (tokens.TryConsume(end) if end else tokens.AtEnd()):
        name = tokens.ConsumeIdentifier()
        if not tokens.TryConsume(":") and tokens.token not in ("{", "<", "["):
            raise tokens.ParseError(f"a colon is missing behind {name!r}")
        values.setdefault(name, []).extend(_values(tokens, f"{path}{name}."))
        if not tokens.TryConsume(","):
            tokens.TryConsume(";")
    return Fields(values, path)


def _values(tokens: Any, path: str) -> Iterator[Any]:
    if not tokens.TryConsume("["):
        yield _value(tokens, path)
        return
    while not tokens.TryConsume("]"):
        yield _value(tokens, path)
        if tokens.token != "]":  # noqa: S105 (a word of the text)
            tokens.Consume(",")


def _value(tokens: Any, path: str) -> Any:
    for begin, end in (("{", "}"), ("<", ">")):
        if tokens.TryConsume(begin):
            return _message(tokens, end, path)
    word = tokens.token
    if word[:1] in ("'", '"'):
        return tokens.ConsumeString()
    for read in (lambda text: int(text, 0), float):
        try:
            value = read(word)
        except ValueError:
            continue
        tokens.NextToken()
        return value
    return {"true": True, "false": False}.get(name := tokens.ConsumeIdentifier(), name)
