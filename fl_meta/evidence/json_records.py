"""Frozen dataclasses from JSON values, checked field by field."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

RecordT = TypeVar("RecordT")
# What is allowed in words, and as types of JSON values. An int in a float field stays an int, so that it is
# written as it was read.
_SCALARS: dict[Any, tuple[str, set[type]]] = {
    str: ("a string", {str}),
    int: ("an integer", {int}),
    float: ("a number", {int, float}),
    NoneType: ("null", {NoneType}),
}


class FieldError(ValueError):
    """A field of a JSON value that is not what it must be."""

    def __init__(self, field: str, allowed: str, value: object) -> None:
        text = repr(value)
        short = text if len(text) <= 60 else f"{text[:60]}…"
        super().__init__(f"{field.lstrip('.') or 'the content'} must be {allowed}, got {short}")
        self.field, self.allowed = field, allowed


def from_json(record: type[RecordT], value: object) -> RecordT:
    """Build a dataclass from a JSON value: the inverse of `dataclasses.asdict` and `json.dumps`.

    Fields may be str, int, float, None, literals, dataclasses, tuples, dicts with string keys, and unions
    of these.

    Raises:
        FieldError: if a field is missing, unknown or of another type.
        ValueError: if the dataclass itself refuses the values.
    """
    return cast(RecordT, _parse(record, value, ""))


@cache
def _field_types(record: Any) -> dict[str, Any]:
    types = get_type_hints(record)
    return {field.name: types[field.name] for field in fields(record)}


def _parse(kind: Any, value: Any, field: str) -> Any:
    """The JSON value as this type; `field` is where it is, such as `.cells[2].accuracy`."""
    if kind in _SCALARS:
        allowed, types = _SCALARS[kind]
        if type(value) not in types:
            raise FieldError(field, allowed, value)
        return value
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise FieldError(field, " or ".join(map(repr, get_args(kind))), value)
        return value
    if isinstance(kind, UnionType):
        return _parse_union(get_args(kind), value, field)
    if get_origin(kind) is dict:
        if type(value) is not dict:
            raise FieldError(field, "an object", value)
        type_ = get_args(kind)[1]
        return {name: _parse(type_, item, f"{field}[{name!r}]") for name, item in value.items()}
    if get_origin(kind) is tuple:
        return _parse_tuple(get_args(kind), value, field)
    types_of = _field_types(kind)
    if type(value) is not dict or value.keys() != types_of.keys():
        raise FieldError(field, _with_fields(types_of, value), value)
    return kind(*(_parse(type_, value[name], f"{field}.{name}") for name, type_ in types_of.items()))


def _parse_tuple(arguments: tuple[Any, ...], value: Any, field: str) -> tuple[Any, ...]:
    if type(value) is list and arguments[-1] is Ellipsis:
        if arguments[0] in _SCALARS and _SCALARS[arguments[0]][1].issuperset(map(type, value)):
            return tuple(value)  # thousands of accuracies at once
        arguments = arguments[:1] * len(value)
    if type(value) is not list or len(value) != len(arguments):
        allowed = "a list" if Ellipsis in arguments else f"a list of {len(arguments)} values"
        raise FieldError(field, allowed, value)
    return tuple(
        _parse(type_, item, f"{field}[{i}]")
        for i, (type_, item) in enumerate(zip(arguments, value, strict=True))
    )


def _parse_union(members: tuple[Any, ...], value: Any, field: str) -> Any:
    errors = []
    for member in members:
        try:
            return _parse(member, value, field)
        except FieldError as error:
            errors.append(error)
    deepest = max(errors, key=lambda error: len(error.field))
    if deepest.field != field:
        raise deepest
    raise FieldError(field, " or ".join(error.allowed for error in errors), value)


def _with_fields(expected: dict[str, Any], value: Any) -> str:
    allowed = f"an object with the fields {', '.join(expected)}"
    if type(value) is not dict:
        return allowed
    name = min(value.keys() ^ expected.keys())
    return f"{allowed} ({name} is {'missing' if name in expected else 'unknown'})"
