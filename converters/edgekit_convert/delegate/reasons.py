"""Why a delegate leaves an operator outside, found by experiment.

The operator is tried as a model of its own. Where it is left there too, one thing at a time is changed until the delegate takes it
(``changes``), then two; what had to be otherwise is the reason. Where it is taken alone, what stands around it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph import Op
from edgekit.operators import RUN_SUBGRAPHS
from edgekit_convert import graph as editing
from edgekit_convert.delegate.changes import changes
from edgekit_convert.delegate.learned import Capabilities, form_of
from edgekit_convert.delegate.number_changes import ratio_of, ratio_text, types_of, with_ratio
from edgekit_convert.delegate.one_op import PRODUCTS, Change, OneOp
from edgekit_convert.delegate.remembered import CRASHED, REFUSED, Answer
from edgekit_convert.graph.slices import Slice, Sliceable, consumers, producers

#: What a reason can be, with what it says; ``changes`` tries the first ten.
KINDS: dict[str, str] = {
    "version": "the runtime has no such version of the operator",
    "dynamic": "a shape, an argument or weights are known only while the model runs",
    "zero_point": "a zero point is not one that the kernel takes",
    "scale": "the scales are too far apart, or not equal where they must be",
    "count": "too many inputs or outputs",
    "activation": "the activation that is fused into it",
    "options": "a stride, a filter or another option",
    "broadcast": "the operands' shapes differ",
    "rank": "the number of axes",
    "type": "no kernel for this type, one for another",
    "position": "it is taken alone, and left where it stands",
    "operator": "no kernel for the operator in any form that was tried",
    "untried": "it cannot be tried alone",
}
_DELEGATES = {"xnnpack": "XNNPACK", "none": "no delegate"}
#: Two changes at once are tried in at most so many ways for each operator.
_MOST_PAIRS = 60
_POWERS = 24

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reason:
    """Why one operator is left outside.

    Attributes:
        kind: one of ``KINDS``.
        text: what was seen and what would be taken.
        where: on which runtime that was learned.
    """

    kind: str
    text: str
    where: str

    def __str__(self) -> str:
        return f"{self.text} ({self.where})."


class Experiments:
    """Finds reasons.

    Args:
        whole: the model.
        learned: the runtime that is asked.
        target: the device that the reasons are for, where it is not at hand; they are predicted then.
        progress: called with models tried and in all, of those that were not known.
    """

    def __init__(
        self,
        whole: Sliceable,
        learned: Capabilities,
        *,
        target: str | None = None,
        progress: Progress = lambda done, total: None,
    ) -> None:
        self._whole = whole
        self._learned = learned
        self._progress = progress
        self._delegate = _DELEGATES[learned.kind]
        self._where = f"tried on {learned}" if target is None else f"predicted for {target}, tried on {learned}"

    def reasons(self, outside: Sequence[int]) -> dict[int, Reason]:
        """The reason for each of some operators that the delegate leaves outside.

        Args:
            outside: their indices.
        """
        found: dict[int, Reason] = {}
        forms: dict[int, bytes] = {}
        for index in outside:
            content = cut_alone(self._whole, self._whole.main.ops[index])
            if content is None:
                text = f"{self._whole.main.ops[index].name} runs other subgraphs or has no output, and cannot be tried alone"
                found[index] = self._reason("untried", text)
            else:
                forms[index] = form_of(content)
        answers = dict(zip(forms, self._learn(forms.values()), strict=True))
        left = {forms[index]: answer for index, answer in answers.items() if not answer.taken}
        known = self._alone(left)
        found |= {index: known[forms[index]] for index, answer in answers.items() if not answer.taken}
        dynamic = [index for index, reason in found.items() if reason.kind in ("dynamic", "type")]
        found |= self._positions([index for index, answer in answers.items() if answer.taken], dynamic)
        return {index: found[index] for index in outside}

    def _alone(self, left: dict[bytes, Answer]) -> dict[bytes, Reason]:
        """The reasons for operators that are left alone as well."""
        ones = {form: OneOp(form) for form in left}
        single = {form: changes(one) for form, one in ones.items()}
        best = self._first_taken(single)
        missing = [form for form in left if form not in best]
        best |= self._first_taken({form: _pairs(single[form]) for form in missing})
        return {
            form: self._changed(ones[form], best[form]) if form in best else self._hopeless(ones[form], answer)
            for form, answer in left.items()
        }

    def _learn(self, forms: Iterable[bytes]) -> list[Answer]:
        return self._learned.learn(list(forms), self._progress, formed=True)

    def _first_taken(self, options: dict[bytes, list[Change]]) -> dict[bytes, Change]:
        """For each operator the first change that the delegate takes."""
        flat = [(form, change) for form, ways in options.items() for change in ways]
        answers = self._learn(change.one.pack() for _, change in flat)
        found: dict[bytes, Change] = {}
        for (form, change), answer in zip(flat, answers, strict=True):
            if answer.taken and form not in found:
                found[form] = change
        return found

    def _changed(self, one: OneOp, change: Change) -> Reason:
        taken = (self._limit(one) if change.kind == "scale" else None) or change.taken
        if change.kind == "type" and change.seen == types_of(one):
            return self._reason(
                "type", f"{self._delegate} has no kernel for {one.name} in {change.seen}; {taken} it is taken"
            )
        return self._reason(change.kind, f"{one.name} in {types_of(one)}: {change.seen}; {taken} it is taken")

    def _limit(self, one: OneOp) -> str | None:
        """Up to which ratio of its scales an operator is taken, by powers of two."""
        ratio = ratio_of(one)
        if ratio is None:
            return None
        step = 1 if ratio.value > 1 else -1
        powers = [step * number for number in range(1, min(_POWERS, math.ceil(abs(math.log2(ratio.value)))) + 1)]
        if not powers:
            return None
        answers = self._learn(with_ratio(one, 2.0**power).pack() for power in powers)
        reached = 0
        for power, answer in zip(powers, answers, strict=True):
            if not answer.taken:
                break
            reached = power
        if reached == 0:
            return "with equal scales" if one.name not in PRODUCTS else None
        return f"{'down' if step < 0 else 'up'} to {ratio_text(2.0**reached)}"

    def _hopeless(self, one: OneOp, answer: Answer) -> Reason:
        if answer.outcome in (REFUSED, CRASHED):
            return self._reason(
                "untried", f"{one.name} in {types_of(one)} does not load alone: {answer.text.rstrip('.')}"
            )
        kinds = " or ".join(dict.fromkeys([types_of(one), "float32"]))
        return self._reason("operator", f"{self._delegate} takes no {one.name} in {kinds} in any form that was tried")

    def _positions(self, indices: Sequence[int], dynamic: Sequence[int]) -> dict[int, Reason]:
        """Why operators that are taken alone are left where they stand.

        Args:
            indices: the operators.
            dynamic: operators that may have a computed shape.
        """
        if not indices:
            return {}
        main = self._whole.main
        found: dict[int, Reason] = {}
        fixed = with_fixed_shapes(self._whole, dynamic)
        taken = (
            set()
            if fixed is None
            else {fixed.ops[i] for part in self._learned.load([fixed.content])[0].parts for i in part}
        )
        for index in indices:
            if index in taken:
                text = f"{main.ops[index].name} is taken alone, and the model's shapes are computed while it runs; with fixed shapes it is taken"
                found[index] = self._reason("dynamic", text)
        for index, text in self._beside([index for index in indices if index not in found]).items():
            found[index] = self._reason(
                "position", f"{main.ops[index].name} is taken alone, and left where it stands {text}"
            )
        for index in indices:
            if index not in found:
                text = f"{main.ops[index].name} is taken alone and with its neighbours, and left in the whole model"
                found[index] = self._reason("position", text)
        return found

    def _beside(self, indices: Sequence[int]) -> dict[int, str]:
        """Beside which neighbours operators are left that are taken alone; those that are not left beside them are missing."""
        whole, main = self._whole, self._whole.main
        makes, reads = producers(main), consumers(main)
        tried: list[tuple[int, str, list[int], Slice]] = []
        for index in indices:
            op = main.ops[index]
            before = {makes[i].index for i in op.inputs if i in makes}
            after = {item.index for i in op.outputs for item in reads.get(i, ())}
            for word, others in (("behind", before), ("before", after)):
                numbers = sorted({index, *others})
                if others and not any(main.ops[number].name in RUN_SUBGRAPHS for number in numbers):
                    results = [i for number in numbers for i in main.ops[number].outputs]
                    tried.append((index, word, numbers, whole.cut(numbers, results)))
        answers = self._learn(form_of(item[3].content) for item in tried)
        found: dict[int, str] = {}
        for (index, word, numbers, _), answer in zip(tried, answers, strict=True):
            if index not in found and not any(numbers.index(index) in part for part in answer.parts):
                names = dict.fromkeys(main.ops[number].name for number in numbers if number != index)
                found[index] = f"{word} {' and '.join(names)}"
        return found

    def _reason(self, kind: str, text: str) -> Reason:
        return Reason(kind, text, self._where)


def cut_alone(whole: Sliceable, op: Op) -> bytes | None:
    """One operator as a model of its own, what it keeps between runs included; ``None`` where that cannot be.

    Args:
        whole: the model.
        op: one of its operators.
    """
    if op.name in RUN_SUBGRAPHS or not op.outputs:
        return None
    part = whole.cut([op.index], op.outputs)
    kept = [place for place, index in enumerate(part.inputs) if whole.main.tensors[index].is_variable]
    if not kept:
        return part.content
    model: Any = editing.read(part.content)
    main = model.subgraphs[0]
    numbers = [int(index) for index in main.inputs]
    for place in kept:
        main.tensors[numbers[place]].isVariable = True
    main.inputs = [index for place, index in enumerate(numbers) if place not in kept]
    return editing.write(model)


@dataclass(frozen=True)
class Fixed:
    """A model without computed shapes.

    Attributes:
        content: the flatbuffer.
        ops: for each of its operators the index that it has in the whole model.
    """

    content: bytes
    ops: tuple[int, ...]


def with_fixed_shapes(whole: Sliceable, ops: Sequence[int]) -> Fixed | None:
    """The model with computed shapes as constants, as far as the file knows them; ``None`` where it has none.

    Args:
        whole: the model.
        ops: the operators that may have a computed shape.
    """
    main = whole.main
    if any(op.name in RUN_SUBGRAPHS for op in main.ops):
        return None
    shaped = [
        op
        for op in (main.ops[index] for index in ops)
        if op.name in ("RESHAPE", "BROADCAST_TO") and len(op.inputs) > 1 and whole.is_activation(op.inputs[1])
    ]
    shaped = [op for op in shaped if main.tensors[op.inputs[0]].elements == main.tensors[op.outputs[0]].elements]
    if not shaped and not any(-1 in tensor.shape_signature for tensor in main.tensors):
        return None
    model: Any = editing.read(whole.cut(range(len(main.ops)), main.outputs, main.inputs).content)
    edited = model.subgraphs[0]
    for op in shaped:
        shape = np.array(main.tensors[op.outputs[0]].shape, np.int32)
        inputs = [int(index) for index in edited.operators[op.index].inputs]
        edited.operators[op.index].inputs = [inputs[0], editing.constant(model, b"shape", shape)]
    fixed = Sliceable(editing.write(model))
    ops = fixed.leading(fixed.main.outputs)  # what only computed a shape is gone
    return Fixed(fixed.cut(ops, fixed.main.outputs, fixed.main.inputs).content, tuple(ops))


def _pairs(single: list[Change]) -> list[Change]:
    """Two changes of different kinds; those that leave the type as it is come first."""
    found: list[Change] = []
    for typed in (False, True):
        for place, first in enumerate(single):
            later = {change.kind for change in single[place + 1 :]} - {first.kind}
            for second in changes(first.one):
                if second.kind in later and (second.kind == "type") is typed:
                    kind = "type" if typed else first.kind
                    texts = f"{first.seen}, and {second.seen}", f"{first.taken} and {second.taken}"
                    found.append(Change(kind, *texts, second.one))
                    if len(found) == _MOST_PAIRS:
                        return found
    return found
