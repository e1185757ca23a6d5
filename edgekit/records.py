"""``Record``: what a frozen dataclass is, made without generating code.

Making a dataclass compiles half a dozen functions, about a millisecond of a small processor's time, and loading a model
needs thirty such types. A ``Record`` has its methods once, in this class; type checkers see a frozen dataclass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """Tell type checkers, which do not come here, to treat subclasses as dataclasses."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Record:
    """Base class: fields are the annotations of the class, defaults their values; instances do not change.

    ``_fields``, ``_replace`` and ``_asdict`` are as in a named tuple.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = tuple(cls.__annotations__)

    if not TYPE_CHECKING:  # type checkers make the constructor from the fields

        def __init__(self, *values: Any, **named: Any) -> None:
            fields = self._fields
            held = self.__dict__
            if len(values) > len(fields):
                raise TypeError(f"{type(self).__name__} takes {len(fields)} values, {len(values)} were given")
            held.update(zip(fields, values, strict=False))
            for name, value in named.items():
                if name not in fields or name in held:
                    raise TypeError(f"{type(self).__name__}: unexpected or repeated argument {name!r}")
                held[name] = value
            if len(held) < len(fields):
                for name in fields:
                    if name not in held:
                        try:
                            held[name] = getattr(type(self), name)
                        except AttributeError:
                            raise TypeError(f"{type(self).__name__}: missing argument {name!r}") from None
            self._check()

    def _check(self) -> None:
        """Raise when the values make no sense together; for subclasses to fill in."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed; use _replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._asdict() == other._asdict()

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self._fields)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"

    def _asdict(self) -> dict[str, Any]:
        """The fields by name, in order."""
        return {name: getattr(self, name) for name in self._fields}

    def _replace(self, **changes: Any) -> Self:
        """A copy with other values."""
        return type(self)(**{**self._asdict(), **changes})
