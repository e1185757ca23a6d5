"""One entry point of a file with several: its subgraph becomes the main one, and what it does not need goes."""

from __future__ import annotations

from typing import Any

from edgekit.operators import OPERATORS

#: Operators that run other subgraphs: the fields of their options' objects that name them (schema.fbs).
_FIELDS: dict[str, tuple[str, ...]] = {
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
    "CALL_ONCE": ("initSubgraphIndex",),
    "CALL": ("subgraph",),
}


def keep_entry(edited: Any, key: str | None) -> int:
    """Keep one entry point of a ``ModelT`` object.

    Args:
        edited: the object.
        key: the signature's name; ``None`` for the main subgraph, whose first signature stays if it has one.

    Returns:
        How many subgraphs were dropped.
    """
    signatures = edited.signatureDefs or []
    chosen = next(
        (item for item in signatures if (item.subgraphIndex == 0 if key is None else _text(item.signatureKey) == key)),
        None,
    )
    main = int(chosen.subgraphIndex) if chosen is not None else 0
    kept = [main]
    for number in kept:  # grows while it is walked through
        for op in edited.subgraphs[number].operators or []:
            kept += [target for _, target in _calls(edited, op) if target not in kept]
    places = {number: place for place, number in enumerate(kept)}
    dropped = len(edited.subgraphs) - len(kept)
    edited.subgraphs = [edited.subgraphs[number] for number in kept]
    for subgraph in edited.subgraphs:
        for op in subgraph.operators or []:
            for field, target in _calls(edited, op):
                setattr(op.builtinOptions, field, places[target])
    if chosen is not None:
        chosen.subgraphIndex = 0
        _give_what_is_named(edited.subgraphs[0], chosen)
    edited.signatureDefs = [chosen] if chosen is not None else []
    return dropped


def _calls(edited: Any, op: Any) -> list[tuple[str, int]]:
    code = edited.operatorCodes[op.opcodeIndex]
    name = OPERATORS[max(int(code.builtinCode), int(code.deprecatedBuiltinCode))]
    return [(field, int(getattr(op.builtinOptions, field))) for field in _FIELDS.get(name, ())]


def _give_what_is_named(main: Any, signature: Any) -> None:
    """Let a subgraph give what its signature names, where the two differ."""
    named = [int(item.tensorIndex) for item in signature.outputs or []]
    if set(named) != {int(index) for index in main.outputs}:
        main.outputs = named


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""
