# pyright: standard
# (torch's optimizer state is untyped)
"""What is one LoRA adapter in training? Its matrices, accumulated gradients and AdamW state."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from crucible.engine.lora import LoraAdapter, adapter_tensors, fill_adapter, require_layout
from crucible.engine.model import LoadedModel
from crucible.ports.training_client import AdamParams, SessionConfig

_MOMENTS = ("exp_avg", "exp_avg_sq")


class LoraSession:
    """One adapter in training. Every method changes all of it or nothing.

    policy_version: optimizer steps that the adapter has taken, those before it was loaded included.
    """

    def __init__(self, config: SessionConfig, loaded: LoadedModel, adapter: LoraAdapter) -> None:
        self.config, self.loaded, self.adapter = config, loaded, adapter
        self.policy_version = 0
        self._optimizer = _new_optimizer(adapter)

    def accumulate(self, gradients: Sequence[Tensor]) -> None:
        """Add gradients of `adapter.parameters`.

        Raises:
            FloatingPointError: if one is not finite; nothing is added.
        """
        if not bool(torch.isfinite(get_total_norm(gradients))):
            raise FloatingPointError("the gradient is not finite: the adapter has diverged, or a weight is too large")
        for parameter, gradient in zip(self.adapter.parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    @property
    def pending(self) -> bool:
        """Whether a gradient was accumulated and not yet applied."""
        return any(parameter.grad is not None for parameter in self.adapter.parameters)

    def step(self, params: AdamParams) -> float:
        """One AdamW step on the accumulated gradient, which is cleared; its global L2 norm before clipping.

        Clipping is torch's: the gradient is multiplied by min(1, grad_clip_norm / (norm + 1e-6)).
        """
        parameters = self.adapter.parameters
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        norm = clip_grad_norm_(parameters, params.grad_clip_norm if params.grad_clip_norm > 0 else math.inf)
        group = self._optimizer.param_groups[0]
        group["lr"], group["betas"] = params.learning_rate, (params.beta1, params.beta2)
        group["eps"], group["weight_decay"] = params.eps, params.weight_decay
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.policy_version += 1
        return float(norm)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """AdamW's state by the adapter's tensor names: `NAME.exp_avg`, `NAME.exp_avg_sq`, and `step`, 0 when fresh."""
        tensors = {"step": torch.zeros((), dtype=torch.float32)}
        for name, parameter in zip(adapter_tensors(self.adapter), self.adapter.parameters, strict=True):
            state = self._optimizer.state.get(parameter, {})
            for key, value in state.items():
                tensors["step" if key == "step" else f"{name}.{key}"] = value.detach()
        return tensors

    def restore(
        self, adapter: Mapping[str, Tensor], optimizer: Mapping[str, Tensor] | None, *, policy_version: int
    ) -> None:
        """Take over saved tensors, and AdamW's state (None: a fresh one). Accumulated gradients are dropped.

        Raises:
            CheckpointError: if names or shapes are not this session's.
        """
        own = adapter_tensors(self.adapter)
        require_layout(adapter, own)
        fresh = _new_optimizer(self.adapter)
        if optimizer is not None and float(optimizer["step"]) > 0:
            moments = {f"{name}.{key}": tensor for name, tensor in own.items() for key in _MOMENTS}
            require_layout(optimizer, {"step": optimizer["step"], **moments})
            for name, parameter in zip(own, self.adapter.parameters, strict=True):
                saved = {"step": optimizer["step"]} | {key: optimizer[f"{name}.{key}"] for key in _MOMENTS}
                fresh.state[parameter] = {key: value.to(parameter.device, copy=True) for key, value in saved.items()}
        fill_adapter(self.adapter, adapter)
        fresh.zero_grad()
        self._optimizer, self.policy_version = fresh, policy_version


def _new_optimizer(adapter: LoraAdapter) -> torch.optim.AdamW:
    return torch.optim.AdamW(adapter.parameters, fused=True)
