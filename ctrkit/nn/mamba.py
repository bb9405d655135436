"""Mamba: the selective state space model, and encoders of behaviour sequences made of it.

From "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (Gu and Dao, arXiv 2312.00752).
Parameters are named, shaped and initialised as in `mamba_ssm.Mamba`: weights can be copied both ways.

Modules made of Mamba read a history in one pass (`forward`), or in one pass that also returns a state
(`encode`). From that state each further event (`step`) costs the same at any length of the history:

    states, state = encoder.encode(history, mask)
    newest, state = encoder.step(event, state)          # as the last of encoder(history and event)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.nn.kernels.operators import by_kernel, mixer_operator
from ctrkit.nn.scan import causal_convolution, check_shapes, selective_scan, selective_scan_with_state
from ctrkit.shapes import Shapes

_SHAPES = Shapes("A: D N; in_proj: 2D M; conv: D 1 T+1; x: B L M; mask: B L; window: B T D; h: B N D")


class MambaState(NamedTuple):
    """The state of a mixer after a sequence.

    Rows may be selected, repeated or expanded along the batch, the first dimension of both tensors.

    Attributes:
        window: the last inputs of the convolution, `[B, d_conv - 1, D]`, the newest last.
        h: the state of the scan, `[B, N, D]`.
    """

    window: Tensor
    h: Tensor


# One state for each block of an encoder.
EncoderState: TypeAlias = tuple[MambaState, ...]


class Around(NamedTuple):
    """What surrounds a block's mixer: a norm of the input, a residual, and a norm of the sum."""

    before: nn.LayerNorm | None
    residual: bool
    after: nn.LayerNorm | None


class Mamba(nn.Module):
    """The Mamba mixer: `[B, L, d_model] -> [B, L, d_model]`, causal.

    Args:
        d_model: width of the sequence.
        d_state: N, state size of each channel.
        d_conv: kernel size of the causal convolution.
        expand: the inner width D is `expand * d_model`.
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner = expand * d_model
        dt_rank = math.ceil(d_model / 16)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(dt_rank, inner)
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self._initialise_steps(dt_rank**-0.5)

    def _initialise_steps(self, bound: float, low: float = 1e-3, high: float = 0.1) -> None:
        """Step sizes at initialisation: log-uniform in [low, high], as softplus of the bias."""
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        step = torch.empty_like(self.dt_proj.bias).uniform_(math.log(low), math.log(high)).exp()
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix a sequence.

        Args:
            x: `[B, L, d_model]`.
            mask: bool `[B, L]`, True at events. With it, padding to the left of the events changes no output:
                padding enters neither the convolution nor the state. Outputs at padding are 0.
        """
        if self.can_mix_at_once(x):
            return self.mix_at_once(x, mask, None, keep=False)[0]
        u, z = self._enter(x, mask)
        u = self._convolved(u, mask)
        y: Tensor = self.out_proj(selective_scan(u, self.x_proj(u), z, *self._dynamics(), mask))
        return y

    def encode(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, MambaState]:
        """`forward`, and the state after the last event."""
        if self.can_mix_at_once(x):
            return self.mix_at_once(x, mask, None, keep=True)
        u, z = self._enter(x, mask)
        events = u if mask is None else u * mask.unsqueeze(-1)
        window = F.pad(events, (0, 0, self.conv1d.kernel_size[0] - 1, 0))[:, x.shape[1] :]
        u = self._convolved(u, mask)
        y, h = selective_scan_with_state(u, self.x_proj(u), z, *self._dynamics(), mask)
        return self.out_proj(y), MambaState(window, h)

    def step(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """One event more: `[B, d_model] -> [B, d_model]`, and the state after it."""
        x = x.unsqueeze(1)
        if self.can_mix_at_once(x):
            y, state = self.mix_at_once(x, None, state, keep=True)
            return y.squeeze(1), state
        u, z = self._enter(x, None, state)
        window = torch.cat([state.window, u], dim=1)
        u = self._convolved(window)[:, -1:]
        y, h = selective_scan_with_state(u, self.x_proj(u), z, *self._dynamics(), h=state.h)
        return self.out_proj(y).squeeze(1), MambaState(window[:, 1:], h)

    def initial_state(self, rows: int) -> MambaState:
        """The state of `rows` empty histories."""
        inner, states = self.A_log.shape
        taps = self.conv1d.kernel_size[0]
        return MambaState(self.D.new_zeros(rows, taps - 1, inner), self.D.new_zeros(rows, states, inner))

    def can_mix_at_once(self, x: Tensor) -> bool:
        """Whether x can use the kernel that goes from input to output in one pass, without gradients."""
        return not torch.is_grad_enabled() and by_kernel(x, self.D)

    def mix_at_once(
        self,
        x: Tensor,
        mask: Tensor | None,
        state: MambaState | None,
        keep: bool,
        around: Around | None = None,
    ) -> tuple[Tensor, MambaState]:
        """From input to output in one pass, with what surrounds the mixer; no state unless `keep`."""
        before, residual, after = around or Around(None, False, None)
        norm = before or after
        convolution = torch.cat([self.conv1d.weight.squeeze(1), self._bias().unsqueeze(1)], dim=1)
        y, window, h = mixer_operator(
            x, self.in_proj.weight, convolution, self.x_proj.weight, *self._dynamics(), self.out_proj.weight,
            _weights(before), _weights(after), residual, 0.0 if norm is None else norm.eps,
            mask, *((None, None) if state is None else state), keep,
        )  # fmt: skip
        return y, MambaState(window, h)

    def _enter(
        self, x: Tensor, mask: Tensor | None, state: MambaState | None = None
    ) -> tuple[Tensor, Tensor]:
        """The input of the convolution, and the gate. Shapes are checked here; the kernel checks its own.

        Two matrix products, because the gradients of one product's halves would have to be concatenated.
        """
        window, h = (None, None) if state is None else state
        weights = {"A": self.A_log, "in_proj": self.in_proj.weight, "conv": self.conv1d.weight}
        check_shapes("Mamba", _SHAPES, **weights, x=x, mask=mask, window=window, h=h)
        of_input, of_gate = self.in_proj.weight.chunk(2)
        return F.linear(x, of_input), F.linear(x, of_gate)

    def _convolved(self, u: Tensor, mask: Tensor | None = None) -> Tensor:
        return causal_convolution(u, self.conv1d.weight, self._bias(), mask)

    def _bias(self) -> Tensor:
        assert self.conv1d.bias is not None
        return self.conv1d.bias

    def _dynamics(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.dt_proj.weight, self.dt_proj.bias, -torch.exp(self.A_log), self.D


class MambaBlock(nn.Module):
    """A mixer with its residual: `x + dropout(mix(norm(x)))` (pre) or `norm(x + dropout(mix(x)))` (post).

    Args:
        mixer: Mamba mixer of the same width.
        width: width of the sequence.
        norm: whether the normalisation is before the mixer or after the residual.
        dropout: dropout rate of the mixer's output.
        last: whether this is the last block; a last "pre" block ends with one more normalisation.
    """

    def __init__(
        self, mixer: Mamba, width: int, norm: Literal["pre", "post"], dropout: float, last: bool = False
    ) -> None:
        super().__init__()
        self.mixer = mixer
        self.norm = nn.LayerNorm(width)
        self.closing = nn.LayerNorm(width) if last and norm == "pre" else None
        self.pre = norm == "pre"
        self.dropout = nn.Dropout(dropout)

    def around(self) -> Around:
        """What surrounds the mixer. Other kinds of blocks override it."""
        return Around(self.norm, True, self.closing) if self.pre else Around(None, True, self.norm)

    def finish(self, x: Tensor) -> Tensor:
        """What follows the mixer and its norms, in other kinds of blocks: `[..., width] -> [..., width]`."""
        return x

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`[B, L, width] -> [B, L, width]`."""
        if self._at_once(x):
            return self.finish(self.mixer.mix_at_once(x, mask, None, False, self.around())[0])
        return self._after(x, self.mixer(self._before(x), mask))

    def encode(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, MambaState]:
        """`forward`, and the state after the last event."""
        if self._at_once(x):
            y, state = self.mixer.mix_at_once(x, mask, None, True, self.around())
            return self.finish(y), state
        mixed, state = self.mixer.encode(self._before(x), mask)
        return self._after(x, mixed), state

    def step(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """One event more: `[B, width] -> [B, width]`, and the state after it."""
        if self._at_once(x):
            y, state = self.mixer.mix_at_once(x.unsqueeze(1), None, state, True, self.around())
            return self.finish(y.squeeze(1)), state
        mixed, state = self.mixer.step(self._before(x), state)
        return self._after(x, mixed), state

    def _at_once(self, x: Tensor) -> bool:
        return not self.training and self.mixer.can_mix_at_once(x)

    def _before(self, x: Tensor) -> Tensor:
        norm = self.around().before
        return x if norm is None else norm(x)

    def _after(self, x: Tensor, mixed: Tensor) -> Tensor:
        _, residual, norm = self.around()
        y = self.dropout(mixed) + x if residual else self.dropout(mixed)
        return self.finish(y if norm is None else norm(y))


class BlockStack(nn.Module):
    """A sequence of blocks, which gives the states of a behaviour sequence.

    Other stacks override `before`.
    """

    def __init__(self, blocks: Iterable[MambaBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    @property
    def _blocks(self) -> Iterable[MambaBlock]:
        return cast("Iterable[MambaBlock]", self.blocks)

    def before(self, x: Tensor) -> Tensor:
        """The input of the first block, from the events: `[..., width] -> [..., width]`."""
        return x

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode histories.

        Args:
            x: events, `[B, L, width]`.
            mask: bool `[B, L]`, True at events, which are to the right of the padding.

        Returns:
            states, `[B, L, width]`; values at padding are meaningless.
        """
        x = self.before(x)
        for block in self._blocks:
            x = block(x, mask)
        return x

    def encode(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, EncoderState]:
        """`forward`, and the state from which `step` continues."""
        x = self.before(x)
        kept = []
        for block in self._blocks:
            x, state = block.encode(x, mask)
            kept.append(state)
        return x, tuple(kept)

    def step(self, x: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """The output `[B, width]` at one more event `[B, width]`, and the state after it."""
        x = self.before(x)
        kept = []
        for block, before in zip(self._blocks, state, strict=True):
            x, after = block.step(x, before)
            kept.append(after)
        return x, tuple(kept)

    def initial_state(self, rows: int) -> EncoderState:
        """The state of `rows` empty histories."""
        return tuple(block.mixer.initial_state(rows) for block in self._blocks)


class MambaEncoder(BlockStack):
    """A stack of Mamba blocks.

    Args:
        width: width of events and states.
        blocks: number of blocks.
        norm: "pre" (with one more normalisation at the end) or "post".
        dropout: dropout rate of each mixer's output.
        d_state: as in `Mamba`.
        d_conv: as in `Mamba`.
        expand: as in `Mamba`.
    """

    def __init__(
        self,
        width: int,
        blocks: int = 2,
        norm: Literal["pre", "post"] = "pre",
        dropout: float = 0.0,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
    ) -> None:
        super().__init__(
            MambaBlock(Mamba(width, d_state, d_conv, expand), width, norm, dropout, last=block == blocks - 1)
            for block in range(blocks)
        )


def _weights(norm: nn.LayerNorm | None) -> Tensor | None:
    return None if norm is None else torch.stack([norm.weight, norm.bias])
