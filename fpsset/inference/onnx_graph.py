"""Builds an ONNX graph node by node."""

import numpy as np

OPSET = 18
NEGATIVE = np.float32(-1.0)


class Graph:
    """An ONNX graph under construction; values are named by strings."""

    def __init__(self):
        """An empty graph."""
        import onnx

        self._onnx, self.nodes, self.constants = onnx, [], []

    def constant(self, value) -> str:
        """A constant: float32, int64 or bool."""
        array = np.asarray(value)
        kinds = {"f": np.float32, "i": np.int64, "b": np.bool_}
        name = f"constant_{len(self.constants)}"
        array = array.astype(kinds[array.dtype.kind])
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs, **attributes) -> str:
        """Adds a node of one output; inputs that are no names become constants."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, names, [name], **attributes))
        return name

    def cast(self, value: str, kind: str) -> str:
        """A value as 'FLOAT', 'INT64' or 'BOOL'."""
        return self.op("Cast", value, to=getattr(self._onnx.TensorProto, kind))

    def total(self, value: str, axis: int = -1, keep: bool = False) -> str:
        """The sum over an axis."""
        return self.op("ReduceSum", value, np.array([axis]), keepdims=int(keep))

    def lifted(self, value: str, axis: int) -> str:
        """A value with one more axis."""
        return self.op("Unsqueeze", value, np.array([axis]))

    def above_zero(self, value: str) -> str:
        """A value, or 1 where it is not above 0, to divide by."""
        return self.op("Where", self.op("Greater", value, np.float32(0)), value, np.float32(1))

    def clean(self, mask: str, value: str, wide: bool = False) -> str:
        """A value with zeros on padding, whatever that holds; `wide`: of one more axis than the mask."""
        return self.op("Where", self.lifted(mask, -1) if wide else mask, value, np.float32(0))

    def by_medium(self, value: str, media: str, mask: str) -> str:
        """The sum over the medium of each slot: [B, N] -> [B, N]."""
        value = self.clean(mask, value)
        zeros = self.op("Mul", value, np.float32(0))
        summed = self.op("ScatterElements", zeros, media, value, axis=1, reduction="add")
        return self.op("GatherElements", summed, media, axis=1)
