"""What a refresh costs: all layers of the SVHN network, by estimator and method.

    python benchmarks/refresh.py data.dir=../shared/data data.verify=false

The network of ``+experiment=svhn`` with its initial weights, moved a little before every refresh as a
training step would; calibration images as in training. The methods take turns; the first turn is not
counted. Median and spread, in milliseconds.
"""

import statistics
import sys
import time

import torch
from hydra import compose, initialize_config_dir

from ccsweep import data
from ccsweep.config.check import check
from ccsweep.config.places import root
from ccsweep.config.register import register
from ccsweep.network import ConditionalMLP
from ccsweep.training.fit import build_network, calibration_images

TURNS = 7
WAYS = [
    ("svd", "full"),
    ("svd", "randomised"),
    ("svd", "warm"),
    ("whitened", "full"),
    ("whitened", "warm"),
    ("whitened", "warm", "estimator.moments=running"),
    ("whitened", "warm", "estimator.energy_loss=0.01"),
]


def main() -> None:
    """Build a network for each way, take turns, print the table."""
    register()
    networks: list[ConditionalMLP] = []
    images = torch.empty(0)
    for name, method, *more in WAYS:
        overrides = [
            "+experiment=svhn",
            f"estimator={name}",
            f"estimator.refresh={method}",
            *more,
            *sys.argv[1:],
        ]
        with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
            config = check(compose("config", overrides=overrides))
        if not networks:
            settings = config.data
            dataset = data.load(settings.name, directory=settings.dir, verify=settings.verify)
            images = calibration_images(config, dataset)
        network = build_network(config)
        for layer, seen in zip(network.hidden, network.layer_data(images), strict=True):
            if layer.running is not None:
                layer.running.update(seen.inputs)
        networks.append(network)
    seconds: list[list[float]] = [[] for _ in WAYS]
    for turn in range(TURNS + 1):
        for network, taken in zip(networks, seconds, strict=True):
            with torch.no_grad():
                for layer in network.hidden:
                    layer.weight += 0.001 * layer.weight.std() * torch.randn_like(layer.weight)
            began = time.perf_counter()
            network.refresh(images)
            if turn:
                taken.append(time.perf_counter() - began)
    print(f"{dataset.label}, {'-'.join(map(str, config.layer_sizes))}, ranks {config.rank_notation}")
    print(f"{len(images):,} calibration images, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for way, taken in zip(WAYS, seconds, strict=True):
        ms = [1000 * s for s in taken]
        spread = f"({min(ms):.1f} to {max(ms):.1f}, {TURNS} times)"
        print(f"{' '.join(way):52} {statistics.median(ms):7.1f} ms  {spread}")


if __name__ == "__main__":
    main()
