"""Weights of ONNX networks that tell nothing, but take time."""

import pathlib

import numpy as np

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_NEGLIGIBLE = 1e-15  # of the largest weight of a tensor; float32 numbers hold 6e-8 of the largest in a sum
_MOST_BYTES = 2**31 - 1  # of a message in memory


def without_negligible(path: pathlib.Path):
    """The network with its negligible weights made zero.

    Weight decay shrinks the weights of dead channels without end. Below 1.2e-38, float32 numbers are
    subnormal, and so are many products of small ones; some CPUs multiply those many times more slowly.

    Args:
      path: an `.onnx` file; values that it keeps in other files are beside it.

    Returns:
      The `onnx.ModelProto`, in which values in other files stay there unless they change; None if none
      change, if onnx is not installed or cannot read the file, or if the network is too large for a message.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        return None
    try:
        model = onnx.load(path, load_external_data=False)
        changed = False
        factors = {name for node in model.graph.node if node.op_type in _PRODUCTS for name in node.input}
        for tensor in model.graph.initializer:
            if tensor.name in factors and tensor.data_type == onnx.TensorProto.FLOAT:
                values = _values(tensor, path)
                if (few := negligible(values)).any():
                    kept = np.where(few, np.float32(0), values)
                    tensor.CopyFrom(numpy_helper.from_array(kept, tensor.name))
                    changed = True
    except Exception:  # onnx's exceptions share no other base; onnxruntime will say what is wrong
        return None
    return model if changed and model.ByteSize() <= _MOST_BYTES else None


def negligible(weights: np.ndarray) -> np.ndarray:
    """Which weights, [...] float32, change no sum with the largest of them, but are not zero: [...] bool."""
    sizes = np.abs(weights)
    least = max(np.finfo(np.float32).tiny, _NEGLIGIBLE * sizes.max(initial=0))
    return (sizes < least) & (sizes > 0)


def _values(tensor, path: pathlib.Path) -> np.ndarray:
    """The values of an initializer, also from another file, which would else be read into the tensor."""
    from onnx import TensorProto, numpy_helper

    copy = TensorProto()
    copy.CopyFrom(tensor)
    return numpy_helper.to_array(copy, str(path.parent))
