"""How a graph is divided between a delegate and the CPU."""

from __future__ import annotations

import tiny_models as models

from edgekit.graph import Subgraph
from edgekit.modelfile import ModelFile
from edgekit.tensors import QuantParams
from edgekit_convert.edgetpu.partition import behind, divide

QUANT = QuantParams((0.05,), (0,))


def graph(*edges: tuple[tuple[str, ...], str]) -> Subgraph:
    """A graph of MUL and LOGISTIC by the names of what each operator reads and makes; ``x`` comes in, all else goes out."""
    b = models.Builder()
    named = {"x": b.tensor("x", (1, 8), "int8", quant=QUANT)}
    for _, name in edges:
        named[name] = b.tensor(name, (1, 8), "int8", quant=QUANT)
    for read, made in edges:
        b.op("LOGISTIC" if len(read) == 1 else "MUL", [named[name] for name in read], [named[made]], version=2)
    outputs = {name: named[name] for _, name in edges}
    return ModelFile.read(b.build({"x": named["x"]}, outputs)).graph.main


def test_a_branch_beside_the_cut_is_in_the_first_part() -> None:
    """What does not need a result of the CPU is in the first part, though it stands behind the cut in the file."""
    main = graph((("x",), "a"), (("a",), "b"), (("b",), "c"), (("a",), "d"))
    assert ((True, (0, 3)), (False, (1,)), (True, (2,))) == divide(main, [True, False, True, True])


def test_the_first_operator_decides_the_kind_of_the_first_part() -> None:
    """An operator of the CPU in front is a part of its own, and what follows it is one part with what runs beside it."""
    main = graph((("x",), "a"), (("a",), "b"), (("x",), "c"), (("b", "c"), "d"))
    assert ((False, (0,)), (True, (1, 2, 3))) == divide(main, [False, True, True, True])


def test_two_branches_meet_behind_the_cut() -> None:
    """An operator that needs both a mapped result and one of the CPU is in a later part."""
    main = graph((("x",), "a"), (("a",), "b"), (("x",), "c"), (("b", "c"), "d"), (("c",), "e"))
    parts = divide(main, [True, False, True, True, True])
    assert ((True, (0, 2, 4)), (False, (1,)), (True, (3,))) == parts


def test_everything_in_one_part_where_nothing_is_in_the_way() -> None:
    """A graph that is taken whole is one part, one that is left whole is none of the delegate's."""
    main = graph((("x",), "a"), (("a",), "b"))
    assert ((True, (0, 1)),) == divide(main, [True, True])
    assert ((False, (0, 1)),) == divide(main, [False, False])


def test_the_nearest_operator_in_the_way_is_named() -> None:
    """What waits behind two operators of the CPU names the one that it reads, or the later one."""
    main = graph((("x",), "a"), (("a",), "b"), (("b",), "c"), (("c",), "d"), (("d",), "e"), (("x",), "f"))
    assert {1: 0, 2: 0, 3: 2, 4: 2} == behind(main, [True, False, True, False, False, False])
