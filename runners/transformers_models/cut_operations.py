"""Computes long operations of a CPU in slices, and calls a function after each slice."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MOST = 2**19
"""Elements that a thread computes at once, in about 5 ms. A slice's result also stays in the caches
and takes no new pages from the system, so slices are faster than the whole."""
_PRODUCTS = 1024
"""Multiplications and additions of a matrix product that take as long as an element of others."""
_QUERIES = 256
"""The fewest queries for which attention is efficient."""
_FIRST_CUT = {
    "_linear_pointwise",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "sigmoid",
    "silu",
    "softmax",
}
"""Operations that treat each row of their first tensor alone, see `_treats_rows_alone`."""
_ALL_CUT = {"add", "matmul", "mul"}
"""Operations on tensors that have the same rows, or one for all."""

Operation = Callable[..., Any]


class CutOperations(TorchFunctionMode):
    """While it is entered, `function` is called after every operation of PyTorch in this thread.

    An operation that takes long is computed in slices of its rows, and the function is called after
    each. The numbers are those of the whole, but for how a library's matrix products round. What
    is cut depends on the arguments that are given by place, as the library's towers give them; an
    operation with a tensor that is given by name is computed at once.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__()
        self._function = function

    def __torch_function__(
        self,
        operation: Operation,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """PyTorch calls it in place of an operation. Within it, the mode is not entered."""
        kwargs = kwargs or {}
        name = getattr(operation, "__name__", "")
        if not args or any(isinstance(one, Tensor) for one in kwargs.values()):
            return self._call(operation, args, kwargs)
        if name == "scaled_dot_product_attention":
            return self._attend(operation, args, kwargs)
        if name == "cat":
            return self._concatenate(operation, args, kwargs)
        if name in _FIRST_CUT and _treats_rows_alone(name, args, kwargs):
            return self._in_slices(operation, args, kwargs, args[:1])
        if name in _ALL_CUT:
            return self._in_slices(operation, args, kwargs, args)
        return self._call(operation, args, kwargs)

    def _call(self, operation: Operation, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        result = operation(*args, **kwargs)
        self._function()
        return result

    def _in_slices(
        self,
        operation: Operation,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        cut: Sequence[Any],
    ) -> Any:
        """The result of an operation, computed along the first dimension with several rows.

        cut: the first of `args`, of which each slice gets its rows.
        """
        shape = _rows_of(operation.__name__, cut)
        axis = _first_with_rows(shape)
        rows = shape[axis] if shape else 1
        step = max(1, rows * _limit() // max(1, _elements(operation.__name__, args)))
        if step >= rows:
            return self._call(operation, args, kwargs)
        whole: Tensor | None = None
        for start, count in _spans(rows, step):
            own = [_narrowed(one, axis - len(shape), start, count) for one in cut]
            part: Tensor = self._call(operation, [*own, *args[len(cut) :]], kwargs)
            if whole is None:
                whole = part.new_empty(*part.shape[:axis], rows, *part.shape[axis + 1 :])
            whole.narrow(axis, start, count).copy_(part)
        return whole

    def _concatenate(
        self, operation: Operation, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """The concatenation of tensors, copied in slices.

        args: the tensors, and the dimension if it is not in `kwargs`.
        """
        tensors: Sequence[Tensor] = args[0]
        dim: int = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        kinds = {(one.dtype, one.dim()) for one in tensors}
        if sum(one.numel() for one in tensors) <= _limit() or len(kinds) > 1:
            return self._call(operation, args, kwargs)
        sizes = [one.shape[dim] for one in tensors]
        shape = list(tensors[0].shape)
        shape[dim] = sum(sizes)
        whole = tensors[0].new_empty(shape)
        for place, one in zip(whole.split(sizes, dim), tensors, strict=True):
            axis = _first_with_rows(one.shape)
            step = max(1, one.shape[axis] * _limit() // max(1, one.numel()))
            for start, count in _spans(one.shape[axis], step):
                place.narrow(axis, start, count).copy_(one.narrow(axis, start, count))
                self._function()
        return whole

    def _attend(self, operation: Operation, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Attention, in slices of heads and of queries if every query sees all keys.

        args: queries, keys and values, [images, heads, tokens, head size]; perhaps a mask.
        """
        if len(args) != 3 or not _sees_all(args, kwargs):
            return self._call(operation, args, kwargs)
        queries, keys, values = args
        images, heads, tokens, size = queries.shape
        a_query = max(1, 2 * keys.shape[2] * size // _PRODUCTS)
        count = max(_QUERIES, _limit() // (a_query * heads))
        head_step = max(1, _limit() // (a_query * min(tokens, count)))
        if count >= tokens and head_step >= heads:
            return self._call(operation, args, kwargs)
        # In this order the library's next product reads it without a copy.
        whole = queries.new_empty(images, tokens, heads, values.shape[-1]).transpose(1, 2)
        for head, own_heads in _spans(heads, head_step):
            own, key, value = (one.narrow(1, head, own_heads) for one in args)
            for start, length in _spans(tokens, count):
                part = self._call(operation, (own.narrow(2, start, length), key, value), kwargs)
                whole.narrow(1, head, own_heads).narrow(2, start, length).copy_(part)
        return whole


def _limit() -> int:
    """Elements of a slice."""
    return _MOST * torch.get_num_threads()


def _treats_rows_alone(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether an operation of `_FIRST_CUT` treats each row alone with these arguments."""
    match name:
        case "softmax":
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            return dim in (-1, args[0].dim() - 1)
        case "layer_norm":
            return len(args) > 1 and len(args[1]) == 1
        case "embedding":  # `torch.embedding` takes the weights first
            return not args[0].is_floating_point()
    return True


def _sees_all(args: Sequence[Tensor], kwargs: dict[str, Any]) -> bool:
    """Whether, by these arguments of attention, every query sees all keys of its own head."""
    heads = {(one.dim(), one.shape[1]) for one in args}
    return len(heads) == 1 and args[0].dim() == 4 and not kwargs.get("is_causal")


def _spans(size: int, step: int) -> Iterator[tuple[int, int]]:
    """Start and length of each slice."""
    return ((start, min(step, size - start)) for start in range(0, size, step))


def _first_with_rows(shape: Sequence[int]) -> int:
    """The first dimension of more than one; 0 if there is none."""
    return next((axis for axis, size in enumerate(shape) if size > 1), 0)


def _rows_of(name: str, cut: Sequence[Any]) -> Sequence[int]:
    """The dimensions along which an operation may be cut, and 1 for each of the others."""
    shapes = [one.shape for one in cut if isinstance(one, Tensor)]
    if name == "matmul":
        return (*torch.broadcast_shapes(*(shape[:-2] for shape in shapes)), 1, 1)
    if name in _FIRST_CUT:
        return (*shapes[0][:-1], 1)
    return torch.broadcast_shapes(*shapes)


def _elements(name: str, args: Sequence[Any]) -> int:
    """How many elements of an operation on each element take as long as this one."""
    first = args[0]
    match name:
        case "linear" | "_linear_pointwise":
            weight: Tensor = args[1]
            return first.numel() * weight.shape[0] // _PRODUCTS
        case "matmul":
            return first.numel() * args[1].shape[-1] // _PRODUCTS
        case "embedding":
            return first.numel() * args[1].shape[1]
    shapes = [one.shape for one in args if isinstance(one, Tensor)]
    return torch.broadcast_shapes(*shapes).numel() if name in _ALL_CUT else first.numel()


def _narrowed(one: Any, axis: int, start: int, count: int) -> Any:
    """The rows of a tensor that has them; another argument as it is. axis: from the end."""
    if isinstance(one, Tensor) and one.dim() >= -axis and one.shape[axis] > 1:
        return one.narrow(axis, start, count)
    return one
