"""A mapping that cannot change, so that two configurations can be compared and hashed."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ImmutableDict(dict[K, V]):
    """A dict for reading: equal to a plain dict of the same items, hashable, never changed.

    A subclass of dict rather than another `Mapping`, because pydantic, psycopg and `json` take
    dicts as they are.
    """

    __slots__ = ()

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("the configuration cannot be changed in place; load a new one")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # a dict's None means "not hashable"
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return dict.__repr__(self)

    def __copy__(self) -> ImmutableDict[K, V]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ImmutableDict[K, V]:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self),))
