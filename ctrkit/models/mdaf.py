"""MDAF: Mamba and DCNv3 with adaptive fusion."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ctrkit.config import Config
from ctrkit.errors import ConfigError
from ctrkit.models.base import Backbone, Crosses, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.models.dcnv3 import CrossConfig
from ctrkit.models.heads.config import HeadsConfig, SharedBottomConfig
from ctrkit.nn.cross import two_views
from ctrkit.nn.embedding import EmbeddingConfig
from ctrkit.nn.encoders import MambaConfig
from ctrkit.nn.fusion import ContextGate, DerivedFusion, FusionSearch, Operation, SoftFusion
from ctrkit.nn.history import HistoryConfig, positions_of
from ctrkit.nn.pooling.attention import DINPooling, TargetAttentionPooling

BranchName: TypeAlias = Literal["cross", "fields", "behaviour"]


class SoftFusionConfig(Config):
    """A learned mixture of sum, product, concatenation and attention."""

    name: Literal["soft"] = "soft"


class ContextGateConfig(Config):
    """A gate between two branches, computed from the branches and the user's profile."""

    name: Literal["context_gate"] = "context_gate"


class ConcatenationConfig(Config):
    """A linear layer over all branches: the ablation without adaptive fusion."""

    name: Literal["concatenation"] = "concatenation"


class OptFusionConfig(Config):
    """OptFusion: a search for branches and operation, then training with the result.

    Attributes:
        connected: positions of the branches to fuse, in `branches`; None to search for them.
        operation: the operation that fuses them; None to search for it.
    """

    name: Literal["optfusion"] = "optfusion"
    connected: tuple[int, ...] | None = None
    operation: Operation | None = None

    @property
    def searches(self) -> bool:
        """Whether there is anything to search."""
        return self.connected is None or self.operation is None


FusionConfig: TypeAlias = Annotated[
    SoftFusionConfig | ContextGateConfig | ConcatenationConfig | OptFusionConfig, Field(discriminator="name")
]


class MDAFConfig(ModelConfig):
    """Config of MDAF.

    Attributes:
        embedding: embeddings; the width is that of one head of the cross networks and must be even.
        branches: the branches to fuse. "cross" is DCNv3 over the static fields, "behaviour" the readings of
            the history, "fields" the static fields themselves. `[cross]` is the ablation without behaviour,
            `[fields, behaviour]` the ablation without cross networks.
        cross: the cross networks.
        fusion: how the branches are fused.
        width: width of each branch and of the fused vector.
        crosses: as in `ModelConfig`, and chosen by default.
    """

    name: Literal["mdaf"] = "mdaf"
    embedding: EmbeddingConfig = EmbeddingConfig(width=32)
    history: HistoryConfig = HistoryConfig(
        encoder=MambaConfig(),
        readouts=(TargetAttentionPooling(), DINPooling()),
        products=True,
        positions=True,
    )
    heads: HeadsConfig = Field(default=SharedBottomConfig(towers=(256, 128), dropout=0.1))
    branches: tuple[BranchName, ...] = Field(default=("cross", "behaviour"), min_length=1)
    cross: CrossConfig = CrossConfig()
    fusion: FusionConfig = SoftFusionConfig()
    width: int = Field(default=128, ge=1)
    crosses: Crosses = "auto"

    @property
    def embedding_width(self) -> int:
        return self.cross.heads * self.embedding.width if "cross" in self.branches else self.embedding.width

    @property
    def reads_history(self) -> bool:
        return "behaviour" in self.branches

    @property
    def searches(self) -> bool:
        return isinstance(self.fusion, OptFusionConfig) and self.fusion.searches

    @model_validator(mode="after")
    def _consistent(self) -> MDAFConfig:
        if self.embedding.width % 2 and "cross" in self.branches:
            raise ValueError("embedding.width must be even, because DCNv3 cuts embeddings into two halves")
        if len(set(self.branches)) < len(self.branches):
            raise ValueError("branches: each branch may be named once")
        if isinstance(self.fusion, ContextGateConfig) and len(self.branches) != 2:
            raise ValueError("fusion: a context gate needs exactly two branches")
        if self.searches and self.heads.name != "shared_bottom":
            raise ValueError("fusion: a search needs a single backbone; set heads.name to shared_bottom")
        if isinstance(self.fusion, OptFusionConfig) and not self.fusion.searches:
            connected = self.fusion.connected or ()
            if not connected or not set(connected) <= set(range(len(self.branches))):
                count = len(self.branches)
                raise ValueError(f"fusion.connected must be positions (from 0) among the {count} branches")
        return self


@register(MDAFConfig)
class MDAF(Backbone):
    """Static features through DCNv3, the behaviour sequence through Mamba, and both fused.

        fields ─▶ DCNv3 ─▶ state ────────────────────────────┐
                    │                                        ├─ fusion ─▶ vector
        events ─▶ Mamba ─▶ states ─▶ target attention ───────┘
                    └─ logits of the two cross networks ─────────────────▶ logit terms

    The target reads the history twice: the states of Mamba, which know the order of events, and the events
    themselves, as in DIN. The logit terms are the auxiliary outputs "deep" (exponential) and "shallow"
    (linear). The first task starts with half of each, which is DCNv3's own logit. Its tower learns what to
    add.

    Without sequences there is no behaviour branch. With one branch there is no fusion.
    """

    term_weight = 0.5

    def __init__(self, config: MDAFConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.config = config
        self.outputs = config.width
        present = [
            branch
            for branch in config.branches
            if (shape.readings if branch == "behaviour" else shape.fields)
        ]
        if not present:
            raise ConfigError(
                f"MDAF has nothing to read for its branches ({', '.join(config.branches)})",
                hint="Declare sequences under `features`, or name other `branches`",
            )
        self.connected = _connected(config, present)
        self.branches = nn.ModuleDict(
            {branch: self._branch(branch, shape) for branch in present if branch in self.connected}
        )
        self.logit_terms = 2 if "cross" in self.branches else 0
        self.profile = positions_of(shape.feature_map, shape.feature_map.profile)
        self.fusion = _fusion(config, len(self.branches), len(self.profile) * shape.width)

    def _branch(self, branch: str, shape: InputShape) -> nn.Module:
        if branch == "cross":
            width = shape.fields * self.config.embedding.width
            return CrossBranch(self.config.cross, width, self.config.width)
        vectors = shape.readings if branch == "behaviour" else shape.fields
        return _projection(vectors * shape.width, self.config.width)

    def forward(self, inputs: Inputs) -> Representation:
        vectors, logit_terms, auxiliary = [], inputs.fields.new_empty(len(inputs.fields), 0), {}
        for name, branch in self.branches.items():
            if isinstance(branch, CrossBranch):
                vector, deep, shallow = branch(inputs.fields)
                logit_terms, auxiliary = (
                    torch.stack([deep, shallow], dim=1),
                    {"deep": deep, "shallow": shallow},
                )
            else:
                vector = branch((inputs.readings if name == "behaviour" else inputs.fields).flatten(1))
            vectors.append(vector)
        return Representation(self._fused(vectors, inputs), logit_terms, auxiliary)

    def _fused(self, vectors: list[Tensor], inputs: Inputs) -> Tensor:
        if self.fusion is None:
            return vectors[0]
        branches = torch.stack(vectors, dim=1)
        if isinstance(self.fusion, ContextGate):
            gated: Tensor = self.fusion(branches, inputs.fields[:, self.profile].flatten(1))
            return gated
        fused: Tensor = self.fusion(branches)
        return fused

    def start_at(self, logit: float) -> float:
        """The cross networks have losses of their own, and each starts at the logit. The first task reads
        half of each, so nothing is left for its bias."""
        for branch in self.branches.values():
            if isinstance(branch, CrossBranch):
                for network in (branch.exponential, branch.linear):
                    nn.init.constant_(network.head.bias, logit)
                return 0.0
        return logit

    def derive(self) -> MDAFConfig:
        if not isinstance(self.fusion, FusionSearch):
            return self.config
        positions, operation = self.fusion.found()
        names = [list(self.branches)[position] for position in positions]
        connected = tuple(self.config.branches.index(name) for name in names)
        fusion = OptFusionConfig(connected=connected, operation=operation)
        return self.config.model_copy(update={"fusion": fusion})


class CrossBranch(nn.Module):
    """DCNv3 over the static fields, with the last states of both networks projected to a branch.

    Args:
        config: settings of the networks.
        width: D, the width of a head's vector.
        outputs: width of the branch.
    """

    def __init__(self, config: CrossConfig, width: int, outputs: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.exponential, self.linear = config.networks(width)
        self.projection = _projection(2 * config.heads * width, outputs)

    def forward(self, fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[B, F, d * heads] -> branch [B, outputs], exponential logit [B], linear logit [B]`."""
        x0 = two_views(fields, self.heads)
        deep, shallow = self.exponential.state(x0), self.linear.state(x0)
        branch = self.projection(torch.cat([deep, shallow], dim=-1).flatten(1))
        return branch, self.exponential.logit(deep), self.linear.logit(shallow)


def _projection(inputs: int, outputs: int) -> nn.Module:
    """A projection with normalised outputs, so that no branch dominates the others in the fusion."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs))


def _connected(config: MDAFConfig, present: list[BranchName]) -> list[BranchName]:
    """The branches with inputs that are connected to the fusion."""
    if not isinstance(config.fusion, OptFusionConfig) or config.fusion.connected is None:
        return present
    return [config.branches[i] for i in config.fusion.connected if config.branches[i] in present] or present


def _fusion(config: MDAFConfig, branches: int, context: int) -> nn.Module | None:
    if branches == 1:
        return None
    if isinstance(config.fusion, OptFusionConfig):
        if config.fusion.connected is None or config.fusion.operation is None:
            return FusionSearch(branches, config.width)
        return DerivedFusion(branches, config.width, config.fusion.operation)
    if isinstance(config.fusion, ContextGateConfig):
        return ContextGate(config.width, context)
    if isinstance(config.fusion, ConcatenationConfig):
        return DerivedFusion(branches, config.width, "concatenation")
    return SoftFusion(branches, config.width)
