"""Forty and more ways in which people write networks with ReLU layers in them."""

import types
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

Inputs = Callable[[int], tuple[Any, ...]]


class Architecture(NamedTuple):
    """A model, and inputs of it; ``chains`` are those that the engine is to run."""

    make: Callable[[], nn.Module]
    inputs: Inputs
    chains: tuple[str, ...]


ALL: dict[str, Architecture] = {}


def of(*shape: int) -> Inputs:
    return lambda count: (torch.randn(count, *shape),)


def architecture(*chains: str, inputs: Inputs | None = None) -> Callable[[Any], Any]:
    def add(make: Any) -> Any:
        ALL[make.__name__] = Architecture(make, inputs or of(24), chains)
        return make

    return add


def mlp(*sizes: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, units in pairwise(sizes):
        parts += [nn.Linear(inputs, units), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


@architecture("0 to 4: 24-32-16-5")
def sequential() -> nn.Module:
    return mlp(24, 32, 16, 5)


@architecture("body.0 to head: 24-32-16-5")
class NestedSequentials(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(24, 32), nn.Sequential(nn.ReLU(), nn.Linear(32, 16), nn.ReLU()))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@architecture("one to three: 24-32-16-5")
class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(24, 32), nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(F.relu(self.two(F.relu(self.one(x), inplace=True))))


@architecture("one to three: 24-32-16-5")
class Clamped(Functional):
    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.two(self.one(x).clamp_min(0)).clamp(min=0))


@architecture("one to three: 24-32-16-5")
class OneReLU(Functional):
    def __init__(self) -> None:
        super().__init__()
        self.relu, self.drop = nn.ReLU(), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.relu(self.one(x)))
        return self.three(F.dropout(self.relu(self.two(x)), 0.2, self.training))


@architecture("0: 24-24-24")
def one_linear_twice() -> nn.Module:
    tied = nn.Linear(24, 24)
    return nn.Sequential(tied, nn.ReLU(), tied)


def seen(model: nn.Module) -> nn.Module:
    """With statistics and weights of norms that are not those of the beginning."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model


@architecture("0 to 5: 24-32-16")
def batch_norm_before_relu() -> nn.Module:
    parts = nn.Linear(24, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU()
    return seen(nn.Sequential(*parts, nn.Softmax(1)))


@architecture("0 to 3: 24-32-16")
def batch_norm_after_relu() -> nn.Module:
    return seen(nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 16)))


@architecture("0 to 1: 12-20", "3 to 5: 20-8-3", inputs=of(4, 12))
def batch_norm_of_channels() -> nn.Module:
    """Of (batch, channels, positions) it norms the channels, which are no features: it stays."""
    return seen(nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.BatchNorm1d(4), *mlp(20, 8, 3)))


class OverLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp(24, 32, 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Layers(nn.Sequential):
    pass


@architecture("layers.0 to layers.4: 24-32-16-5")
class SubclassOfSequential(OverLayers):
    def __init__(self) -> None:
        super().__init__()
        self.layers = Layers(*self.layers)


@architecture("layers.0 to layers.4: 24-32-16-5")
class Iterates(OverLayers):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@architecture("layers.0 to layers.2: 24-32-16")
class Slices(OverLayers):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers[:3](x) * 2


@architecture("layers.0 to layers.2: 24-32-16")
class Skips(OverLayers):
    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            if number not in (3, len(self.layers) - 1):
                x = layer(x)
        return x


@architecture("layers.0 to layers.1: 24-32", "layers.2 to layers.4: 32-16-5")
class LooksInTheMiddle(OverLayers):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layers[1](self.layers[0](x))
        return torch.cat([self.layers[4](self.layers[3](self.layers[2](hidden))), hidden[:, :2]], 1)


@architecture("inside.0 to inside.2: 24-48-24", "head to relu: 24-5")
class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.head = mlp(24, 48, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.head(x + self.inside(x)))


@architecture("left.0 to left.2: 24-16-8", "right.0 to right.1: 24-8", "head.0 to head.2: 16-8-3")
class TwoBranches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.head = mlp(24, 16, 8), mlp(16, 8, 3)
        self.right = nn.Sequential(nn.Linear(24, 8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.left(x), self.right(x)], dim=-1))


@architecture("trunk.0 to trunk.3: 24-32-16", "critic.0 to critic.2: 16-8-1")
class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*mlp(24, 32, 16), nn.ReLU())
        self.actor, self.critic = nn.Linear(16, 4), mlp(16, 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(x)
        return self.actor(hidden), self.critic(hidden).squeeze(-1)


@architecture("encoder.0 to encoder.2: 24-16-4", "decoder.0 to decoder.2: 4-16-24")
class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(24, 16, 4), mlp(4, 16, 24)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        code = self.encoder(x)
        return {"code": code, "reconstruction": torch.sigmoid(self.decoder(code))}


@dataclass
class Posterior:
    mean: Tensor
    log_variance: Tensor


@architecture("body.0 to body.1: 24-16")
class VariationalEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(24, 16), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Posterior:
        hidden = self.body(x)
        return Posterior(self.mean(hidden), log_variance=self.log_variance(hidden))


@architecture("classifier.1 to classifier.4: 98-32-5", inputs=of(1, 14, 14))
class ConvolutionsAndHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        dropped = nn.Dropout(), nn.Linear(98, 32), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(32, 5)
        self.classifier = nn.Sequential(*dropped)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(x.size(0), 98))


@architecture("head.1 to head.3: 98-32-5", inputs=of(1, 14, 14))
class OneReLUForBoth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        act = nn.ReLU()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), act, nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(98, 32), act, nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.head(self.body(x)), dim=1)


def clicks(count: int) -> tuple[Any, ...]:
    return torch.randn(count, 4), torch.randint(0, 50, (count, 3))


@architecture("deep.0 to deep.4: 28-32-16-1", inputs=clicks)
class Recommender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(50, 8) for _ in range(3))
        self.deep = mlp(28, 32, 16, 1)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        found = [table(categories[:, k]) for k, table in enumerate(self.tables)]
        return torch.sigmoid(self.deep(torch.cat([numbers, *found], 1))).squeeze(1)


@architecture("mlp.0 to mlp.2: 8-16-2", inputs=lambda count: (torch.randint(0, 50, (count, 6)),))
class BagOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.mlp = nn.EmbeddingBag(50, 8, mode="mean"), mlp(8, 16, 2)

    def forward(self, words: Tensor) -> Tensor:
        return self.mlp(self.bag(words))


@architecture("up to down: 16-64-16", inputs=of(5, 16))
class FeedForwardOfPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(F.relu(self.up(self.norm(x))))


@architecture("0.up to 0.down: 16-64-16", "1.up to 1.down: 16-64-16", inputs=of(5, 16))
def blocks_with_attention() -> nn.Module:
    return nn.Sequential(Block(), Block())


@architecture("linear1 to linear2: 16-64-16", inputs=of(5, 16))
def encoder_layer_of_torch() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 64, batch_first=True)


@architecture(
    "layers.0.linear1 to layers.0.linear2: 16-64-16",
    "layers.1.linear1 to layers.1.linear2: 16-64-16",
    inputs=of(5, 16),
)
def encoder_of_torch() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


@architecture("head.0 to head.2: 12-16-4", inputs=of(7, 10))
class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(10, 12, batch_first=True), mlp(12, 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, (last, _) = self.lstm(x)
        return self.head(last[-1])


@architecture("tokens.0 to tokens.2: 5-10-5", "mix.0 to mix.2: 8-16-8", inputs=of(5, 8))
class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.mix = mlp(5, 10, 5), mlp(8, 16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        return (x + self.mix(x)).mean(1)


@architecture("local.0 to local.3: 3-16-32", "head.0 to head.2: 32-16-4", inputs=of(9, 3))
class PointNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.local, self.head = nn.Sequential(*mlp(3, 16, 32), nn.ReLU()), mlp(32, 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.local(x).max(dim=1).values)


@architecture(
    "tower.0 to tower.2: 24-32-8",
    "tower.0 to tower.2: 24-32-8",
    inputs=lambda count: (torch.randn(count, 24), torch.randn(count, 24)),
)
class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower = mlp(24, 32, 8)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return F.cosine_similarity(self.tower(a), self.tower(b))


@architecture("experts.0.0 to experts.0.2: 24-16-5", "experts.1.0 to experts.1.2: 24-16-5")
class MixtureOfExperts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(24, 2), nn.ModuleList(mlp(24, 16, 5) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        return sum(weights[:, k : k + 1] * expert(x) for k, expert in enumerate(self.experts))


@architecture("experts.0.0 to experts.0.2: 24-16-5", "experts.1.0 to experts.1.2: 24-16-5")
class ChoosesAnExpert(MixtureOfExperts):
    """Python that looks at values cannot be traced: the experts are units of their own."""

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), 5)
        chosen = self.gate(x).argmax(-1)
        for k, expert in enumerate(self.experts):
            rows = (chosen == k).nonzero().squeeze(1)
            if len(rows):
                out[rows] = expert(x[rows])
        return out


@architecture("layers.0 to layers.4: 24-32-16-5")
class LooksAtValues(OverLayers):
    def forward(self, x: Tensor) -> Tensor:
        if len(x) and float(x.abs().max()) > 100:
            x = x / 100
        return self.layers(x)


@architecture("layers.0 to layers.4: 24-32-16-5")
class CountsItsCalls(OverLayers):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layers(x)


@architecture("layers.0 to layers.4: 24-32-16-5")
class OptionalArguments(OverLayers):
    def forward(
        self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0, *, log: bool = False
    ) -> Tensor:
        if mask is not None:
            x = x * mask
        return self.layers(x) * scale


@architecture(
    "layers.0 to layers.4: 24-32-16-5",
    inputs=lambda count: ({"x": torch.randn(count, 24), "id": torch.arange(count)},),
)
class TakesADict(OverLayers):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.layers(batch["x"])


@architecture("matmul to matmul_1: 24-32-5")
class BareParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(24, 32) / 5), nn.Parameter(torch.randn(32))
        self.v = nn.Parameter(torch.randn(32, 5) / 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.w + self.b) @ self.v


@architecture("layer to relu: 24-32")
class Maxout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(24, 32)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layer(x)).unflatten(-1, (8, 4)).amax(-1)


@architecture("0 to 2: 24-32-5")
def pruned() -> nn.Module:
    model = mlp(24, 32, 5)
    prune.l1_unstructured(model[0], "weight", 0.5)
    return model


@architecture("0 to 2: 24-32-5")
def with_norms_of_weights() -> nn.Module:
    model = mlp(24, 32, 5)
    parametrizations.weight_norm(model[0])
    parametrizations.spectral_norm(model[2])
    return model


@architecture("0.linear to 2: 24-32-5")
def with_an_adapter() -> nn.Module:
    """A forward of its own on an instance."""
    model = mlp(24, 32, 5)
    change = torch.randn(32, 2) @ torch.randn(2, 24)
    adapted = lambda self, x: F.linear(x, self.weight + change, self.bias)  # noqa: E731
    model[0].forward = types.MethodType(adapted, model[0])
    return model


@architecture("1 to 3: 24-32-5")
def with_a_hook() -> nn.Module:
    model = nn.Sequential(nn.Linear(24, 24), *mlp(24, 32, 5))
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    return model


@architecture("trunk.layers.0 to trunk.layers.4: 24-32-16-5")
class HookedInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = Iterates()
        self.trunk.register_forward_hook(lambda module, inputs, output: output + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)


@architecture("fc0 to fc3: 24-32-32-32-5")
class ByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for k, (inputs, units) in enumerate([(24, 32), (32, 32), (32, 32), (32, 5)]):
            self.add_module(f"fc{k}", nn.Linear(inputs, units))

    def forward(self, x: Tensor) -> Tensor:
        for k in range(3):
            x = getattr(self, f"fc{k}")(x).relu_()
        return self.fc3(x)


@architecture(
    "stem to relu: 24-16", "block to relu_1: 16-16", "block to relu_2: 16-16", "head to relu_3: 16-3"
)
class OneBlockAgainAndAgain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(24, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        for _ in range(2):
            h = h + self.block(h).relu()
        return self.head(h).relu()


@architecture("module.0 to module.2: 24-32-5")
def under_data_parallel() -> nn.Module:
    return nn.DataParallel(mlp(24, 32, 5))
