"""A device that is not the CPU, on any machine: tensors that compute on the CPU and refuse to meet the CPU's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

# No other device of torch's can be named where it is not there.
ELSEWHERE = torch.device("meta")
_MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class ElsewhereTensor(Tensor):
    """Says that it is on ELSEWHERE; its values are in ``inner``, on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> ElsewhereTensor:
        wrapped: ElsewhereTensor = Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=ELSEWHERE
        )
        wrapped.inner = inner
        return wrapped

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(function, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Makes the tensors that are made there."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(function, args, kwargs or {})


@contextmanager
def elsewhere() -> Iterator[None]:
    """Within the block ELSEWHERE can be moved and computed on."""
    with _Factories():
        yield


def _compute(function: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    values = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    is_there = any(isinstance(value, ElsewhereTensor) for value in values)
    # Numbers may come from the CPU, as on a GPU.
    if is_there and function not in _MOVES:
        strangers = [value for value in values if not isinstance(value, ElsewhereTensor) and value.ndim]
        if strangers:
            raise RuntimeError(f"{function}: tensors of two devices, one of the CPU's of shape {strangers[0].shape}")
    device = kwargs.get("device")
    goes_there = is_there if device is None else torch.device(device) == ELSEWHERE
    if function is torch.ops.aten.copy_.default:
        goes_there = isinstance(args[0], ElsewhereTensor)
    inner = {name: value for name, value in kwargs.items() if name != "device"}
    if device is not None:
        inner["device"] = torch.device("cpu")
    inner_args, inner = tree_map(_unwrapped, (args, inner))
    result = function(*inner_args, **inner)
    if goes_there:
        # What is changed in place stays the tensor that it is.
        own = {id(value.inner): value for value in values if isinstance(value, ElsewhereTensor)}
        return tree_map(lambda value: _wrapped(value, own), result)
    return result


def _unwrapped(value: Any) -> Any:
    return value.inner if isinstance(value, ElsewhereTensor) else value


def _wrapped(value: Any, own: Mapping[int, ElsewhereTensor]) -> Any:
    if not isinstance(value, Tensor):
        return value
    return own[id(value)] if id(value) in own else ElsewhereTensor(value)
