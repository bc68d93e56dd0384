"""What is right of a message in which something is wrong: its right entries, without the others.

Pure: no I/O, no clock.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from msgspec import Meta as Limit
from msgspec import MsgspecError, Struct, convert

Refused = Callable[[str], None]
"""Is told what is wrong with each entry that is left out."""
_SEVERAL = (dict, Mapping, list)


def right_fields(kind: type[Struct], fields: list[Any], refused: Refused) -> Iterator[Any]:
    """Each field of a message or a part of it, with only what is right in it.

    A map or list that is longer than it may be is cut; what is no map or list stays as it is.
    """
    hints = _hints(kind)
    for name, value in zip(kind.__struct_fields__, fields, strict=False):
        yield _right(hints[name], value, refused)


@cache
def _hints(kind: type[Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _right(wanted: Any, value: Any, refused: Refused) -> Any:
    """What is right of a value: of a map or list its right entries, all of anything else."""
    if get_origin(wanted) in (UnionType, Union) and value is not None:
        wanted = get_args(wanted)[0]
    most = None
    if get_origin(wanted) is Annotated and get_origin(get_args(wanted)[0]) in _SEVERAL:
        wanted, *limits = get_args(wanted)
        most = next((limit.max_length for limit in limits if isinstance(limit, Limit)), None)
    if isinstance(wanted, type) and issubclass(wanted, Struct) and isinstance(value, list):
        return list(right_fields(wanted, value, refused))
    if get_origin(wanted) in (dict, Mapping) and isinstance(value, dict):
        of_key, of_value = get_args(wanted)
        entries = ((key, _right(of_value, one, refused)) for key, one in value.items())
        right = {k: v for k, v in entries if _is(of_key, k, refused) and _is(of_value, v, refused)}
        return dict(_cut(list(right.items()), most, refused))
    if get_origin(wanted) is list and isinstance(value, list):
        return _cut([one for one in value if _is(get_args(wanted)[0], one, refused)], most, refused)
    return value


def _cut(entries: list[Any], most: int | None, refused: Refused) -> list[Any]:
    """The first of these entries, as many as there may be."""
    if most is None or len(entries) <= most:
        return entries
    for _ in entries[most:]:
        refused(f"one of {len(entries)} entries, of which {most} are taken")
    return entries[:most]


def _is(wanted: Any, value: Any, refused: Refused) -> bool:
    try:
        convert(value, wanted)
    except MsgspecError as error:
        refused(f"{str(value)[:80]!r}: {error}")
        return False
    return True
