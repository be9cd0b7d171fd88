"""ONNX graphs written like NumPy: values with operators, branches and loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 18

_TYPES = {
    "bool": onnx.TensorProto.BOOL,
    "u1": onnx.TensorProto.UINT8,
    "u2": onnx.TensorProto.UINT16,
    "i4": onnx.TensorProto.INT32,
    "i8": onnx.TensorProto.INT64,
    "f4": onnx.TensorProto.FLOAT,
    "f8": onnx.TensorProto.DOUBLE,
}
_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "And", "Or")
_INDICES = ("Shape", "NonZero", "Size")


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph, with NumPy's arithmetic; numbers are cast to its type.

    Parameters
    ----------
    graph : Graph
        The graph.
    name : str
        Its name.
    dtype : str
        Its type, such as `f4`.
    """

    graph: Graph
    name: str
    dtype: str

    def __add__(self, other: Operand) -> Value:
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", self, other)

    def __rsub__(self, other: float) -> Value:
        return self.graph.op("Sub", self.graph.constant(other, self.dtype), self)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        return self.graph.op("Div", self, other)

    def __gt__(self, other: Operand) -> Value:
        return self.graph.op("Greater", self, other)

    def __ge__(self, other: Operand) -> Value:
        return self.graph.op("GreaterOrEqual", self, other)

    def __lt__(self, other: Operand) -> Value:
        return self.graph.op("Less", self, other)

    def __le__(self, other: Operand) -> Value:
        return self.graph.op("LessOrEqual", self, other)

    def __and__(self, other: Value) -> Value:
        return self.graph.op("And", self, other)

    def __or__(self, other: Value) -> Value:
        return self.graph.op("Or", self, other)

    def __invert__(self) -> Value:
        return self.graph.op("Not", self)

    def __neg__(self) -> Value:
        return self.graph.op("Neg", self)

    def equals(self, other: Operand) -> Value:
        return self.graph.op("Equal", self, other)

    def cast(self, dtype: str) -> Value:
        """The same numbers in another type."""
        if dtype == self.dtype:
            return self
        return self.graph.op("Cast", self, to=_TYPES[dtype], dtype=dtype)

    def size(self, axis: int) -> Value:
        """The length of an axis, (1,) int64."""
        return self.graph.op("Shape", self, start=axis, end=axis + 1)

    def reshape(self, *shape: int) -> Value:
        """Another shape; one length may be -1."""
        return self.graph.op("Reshape", self, self.graph.constant(list(shape), "i8"))

    def flat(self) -> Value:
        return self.reshape(-1)

    def part(self, axis: int, start: Operand = 0, stop: Operand | None = None) -> Value:
        """The elements start..stop of an axis; None is its end."""
        stop = np.iinfo(np.int64).max if stop is None else stop
        ends = [one if isinstance(one, Value) else self.graph.constant([one], "i8") for one in (start, stop)]
        return self.graph.op("Slice", self, *ends, self.graph.constant([axis], "i8"))

    def take(self, index: Value, axis: int = 0) -> Value:
        return self.graph.op("Gather", self, index, axis=axis)

    def where(self, condition: Value, otherwise: Operand) -> Value:
        """This value where the condition is true, else the other."""
        return self.graph.op("Where", condition, self, self._like(otherwise), dtype=self.dtype)

    def clip(self, low: Operand | None, high: Operand | None) -> Value:
        value = self if low is None else self.maximum(low)
        return value if high is None else value.minimum(high)

    def minimum(self, other: Operand) -> Value:
        return self.graph.op("Min", self, other)

    def maximum(self, other: Operand) -> Value:
        return self.graph.op("Max", self, other)

    def _reduced(self, kind: str, axes: Sequence[int] | None) -> Value:
        """Reduce over some axes, which are removed; over all: (1,)."""
        if axes is None:
            return self.graph.op(kind, self.flat(), keepdims=1)
        return self.graph.op(kind, self, self.graph.constant(list(axes), "i8"), keepdims=0)

    def sum(self, *axes: int) -> Value:
        return self._reduced("ReduceSum", axes or None)

    def max(self, *axes: int) -> Value:
        return self._reduced("ReduceMax", axes or None)

    def min(self, *axes: int) -> Value:
        return self._reduced("ReduceMin", axes or None)

    def any(self, *axes: int) -> Value:
        """Whether any element is true; false for no elements."""
        return self.cast("i4").sum(*axes) > 0

    def _like(self, other: Operand) -> Value:
        return other if isinstance(other, Value) else self.graph.constant(other, self.dtype)


Operand = Value | float


class Graph:
    """Collects nodes in the order in which they are written, and constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], Any] = {}
        self._names = 0

    def constant(self, value: Any, dtype: str) -> Value:
        """A constant tensor; a number becomes (1,), which broadcasts to any shape."""
        array = np.atleast_1d(np.asarray(value, "?" if dtype == "bool" else dtype))
        key = dtype, array.shape, array.tobytes()
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, self._name("constant"))
        return Value(self, self.constants[key].name, dtype)

    def op(self, kind: str, *inputs: Operand | None, dtype: str | None = None, **attributes: Any) -> Value:
        """Add an operator with one output; its type is that of the first input unless `dtype` is given."""
        return self.ops(kind, *inputs, dtypes=(dtype,), **attributes)[0]

    def ops(
        self, kind: str, *inputs: Operand | None, dtypes: Sequence[str | None], **attributes: Any
    ) -> list[Value]:
        """Add an operator with several outputs of the types `dtypes`."""
        first = next((one for one in inputs if isinstance(one, Value)), None)
        usual = first.dtype if first else "f4"
        values = [
            one if one is None or isinstance(one, Value) else self.constant(one, usual) for one in inputs
        ]
        if kind in _COMPARISONS:
            usual = "bool"
        elif kind in _INDICES:
            usual = "i8"
        outputs = [Value(self, self._name(kind.lower()), dtype or usual) for dtype in dtypes]
        names = [one.name if one else "" for one in values]
        self.nodes.append(helper.make_node(kind, names, [one.name for one in outputs], **attributes))
        return outputs

    def join(self, *values: Value, axis: int = 0) -> Value:
        return self.op("Concat", *values, axis=axis)

    def stack(self, *values: Value) -> Value:
        """Vectors of length N -> (N, count)."""
        return self.join(*(one.reshape(-1, 1) for one in values), axis=1)

    def count_to(self, stop: Value) -> Value:
        """0, 1 ... stop - 1 for a (1,) int64."""
        ends = self.constant(0, "i8").reshape(), stop.reshape(), self.constant(1, "i8").reshape()
        return self.op("Range", *ends)

    def full(self, shape: Value, value: float, dtype: str) -> Value:
        """A tensor of one value; shape: (rank,) int64."""
        tensor = helper.make_tensor("value", _TYPES[dtype], [1], [value])
        return self.op("ConstantOfShape", shape, value=tensor, dtype=dtype)

    def choose(
        self, condition: Value, then: Callable[[], Sequence[Value]], otherwise: Callable[[], Sequence[Value]]
    ) -> list[Value]:
        """The values of one of two branches; only that branch runs."""
        branches, dtypes = [], []
        for name, branch in (("then", then), ("otherwise", otherwise)):
            with self._inner() as nodes:
                results = [self.op("Identity", one) for one in branch()]
            branches.append(helper.make_graph(nodes, name, [], [_info(one) for one in results]))
            dtypes.append([one.dtype for one in results])
        assert dtypes[0] == dtypes[1], dtypes
        return self.ops("If", condition, dtypes=dtypes[0], then_branch=branches[0], else_branch=branches[1])

    def loop(
        self, condition: Value, state: Sequence[Value], body: Callable[..., tuple[Value, Sequence[Value]]]
    ) -> list[Value]:
        """Run `body(*state)`, which returns (continue, new state), while the condition is true."""
        inputs = [Value(self, self._name("state"), one.dtype) for one in state]
        count, go_on = Value(self, self._name("count"), "i8"), Value(self, self._name("go_on"), "bool")
        with self._inner() as nodes:
            again, results = body(*inputs)
            outputs = [again.reshape(), *(self.op("Identity", one) for one in results)]
        infos = [helper.make_tensor_value_info(one.name, _TYPES[one.dtype], []) for one in (count, go_on)] + [
            _info(one) for one in inputs
        ]
        results_infos = [helper.make_tensor_value_info(outputs[0].name, _TYPES["bool"], [])]
        results_infos += [_info(one) for one in outputs[1:]]
        graph = helper.make_graph(nodes, "body", infos, results_infos)
        stem = self._name("looped")
        found = [Value(self, f"{stem}_{number}", one.dtype) for number, one in enumerate(state)]
        starts = ["", condition.reshape().name, *(one.name for one in state)]
        self.nodes.append(helper.make_node("Loop", starts, [one.name for one in found], body=graph))
        return found

    @contextmanager
    def _inner(self) -> Iterator[list[Any]]:
        """Collect the nodes of a branch or of a loop's body."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    def _name(self, stem: str) -> str:
        self._names += 1
        return f"{stem}_{self._names}"


def _info(value: Value) -> Any:
    return helper.make_tensor_value_info(value.name, _TYPES[value.dtype], None)
