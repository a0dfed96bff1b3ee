"""Layers whose weights differ from lane to lane, where torch's own rule for `vmap` is slow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Lanes"]


class Lanes(TorchFunctionMode):
    """Under it, inside a `vmap` over weights, linear layers differentiate without transposing any gradient, and
    BatchNorm takes all lanes as channels of one, in a single pass.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See torch."""
        if func is functional.linear and not kwargs and len(args) == 3 and isinstance(args[2], Tensor):
            return _Linear.apply(*args)  # type: ignore[no-untyped-call]
        if func is functional.batch_norm and kwargs and len(args) == 3 and kwargs.get("training"):
            tensors = *args, kwargs.get("weight"), kwargs.get("bias")
            if all(isinstance(value, Tensor) for value in tensors):
                return _BatchNorm.apply(*tensors, kwargs["momentum"], kwargs["eps"])  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def _lanes_first(info: Any, places: Sequence[int | None], given: Sequence[Tensor]) -> list[Tensor]:
    """(L, …) each; what all lanes share is as good as repeated."""
    return [
        value.expand(info.batch_size, *value.shape) if place is None else value.movedim(place, 0)
        for value, place in zip(given, places, strict=True)
    ]


class _Linear(torch.autograd.Function):
    """x ↦ xWᵀ + b of one lane; `vmap` hands over all lanes at once."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        return grad @ weight, flat.mT @ x.reshape(-1, x.shape[-1]), flat.sum(0)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Tensor) -> tuple[Tensor, int]:
        return _LinearOverLanes.apply(*_lanes_first(info, in_dims, given)), 0  # type: ignore[no-untyped-call]


class _LinearOverLanes(torch.autograd.Function):
    """x (L, …, i), W (L, o, i), b (L, o) ↦ (L, …, o)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = x.reshape(len(x), -1, x.shape[-1])
        ctx.shape = x.shape
        out = torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
        # Under autocast the result is shorter than its arguments, and so is the gradient that comes back.
        ctx.save_for_backward(rows.to(out.dtype), weight.to(out.dtype))
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        rows, weight = ctx.saved_tensors
        grad = grad.reshape(len(rows), rows.shape[1], -1)
        # (L, o, i) as the weights lie, which torch's own rule would give as (L, i, o) transposed.
        of_weight = torch.bmm(grad.mT, rows) if ctx.needs_input_grad[1] else None
        of_x = torch.bmm(grad, weight).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return of_x, of_weight, grad.sum(1) if ctx.needs_input_grad[2] else None


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation in training of one lane, which updates its running statistics."""

    @staticmethod
    def forward(x: Tensor, mean: Tensor, variance: Tensor, *rest: Any) -> Tensor:
        weight, bias, momentum, eps = rest
        return functional.batch_norm(x, mean, variance, weight, bias, True, momentum, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise NotImplementedError("one lane alone is differentiated by torch")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Tensor, int]:
        x, *tensors = _lanes_first(info, in_dims[:5], given[:5])
        return _BatchNormOverLanes.apply(x.movedim(0, 1), *tensors, *given[5:]), 1  # type: ignore[no-untyped-call]


class _BatchNormOverLanes(torch.autograd.Function):
    """x (B, L, C, …), statistics, weight and bias (L, C) ↦ (B, L, C, …)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, variance: Tensor, *rest: Any) -> Tensor:
        weight, bias, momentum, eps = rest
        flat, scale = x.flatten(1, 2), weight.reshape(-1)
        running = mean.view(-1), variance.view(-1)
        out, *saved = torch.native_batch_norm(flat, scale, bias.reshape(-1), *running, True, momentum, eps)
        ctx.save_for_backward(flat, scale, *running, *saved)
        ctx.eps, ctx.shape = eps, x.shape
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        flat, scale, *saved = ctx.saved_tensors
        found = torch.ops.aten.native_batch_norm_backward(
            grad.flatten(1, 2),
            flat,
            scale,
            *saved,
            True,
            ctx.eps,
            ctx.needs_input_grad[0:1] + ctx.needs_input_grad[3:5],
        )
        of_x, *of_rest = found
        of_weight, of_bias = (None if value is None else value.view(ctx.shape[1:3]) for value in of_rest)
        return None if of_x is None else of_x.view(ctx.shape), None, None, of_weight, of_bias, None, None
