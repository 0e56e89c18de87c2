"""From a config and a data set to a trained, tested network."""

import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import gcd
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor

from ccsweep.config.schema import Config
from ccsweep.data.dataset import Dataset
from ccsweep.data.module import ArrayDataModule
from ccsweep.engine.compiled import torch_threads
from ccsweep.errors import UserError, is_interrupt
from ccsweep.estimator.statistics import GateStatistics
from ccsweep.figures import VALIDATION_ERROR
from ccsweep.network import ConditionalMLP
from ccsweep.training import checkpoint
from ccsweep.training.callbacks import MetricLog, RefreshFactors, TrackMetrics, WallClock
from ccsweep.training.module import ConditionalModule
from ccsweep.training.progress import ShowProgress
from ccsweep.training.ways import open_ways
from ccsweep.watch import tell

log = logging.getLogger(__name__)
# Lightning says at INFO what hardware it found; the run's environment.json holds that.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
logging.getLogger("matplotlib").setLevel(logging.WARNING)  # imported by torchmetrics
# Lightning 2.6 asks torch 2.13 an old way for something; nothing a user could change.
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
# On a cluster Lightning advises srun, which sweep.cluster=slurm sees to.
warnings.filterwarnings("ignore", message="The `srun` command is available")


WORK = 20_000_000
"""Multiplications of a forward pass that a thread is worth; with fewer, threads wait for each other."""


class Trained(NamedTuple):
    """What training came to."""

    validation_error: float
    """Percent, of the best epoch."""
    best_epoch: int
    epochs: int


class ExaminedLayer(NamedTuple):
    """One hidden layer, as found on a split of the data."""

    inputs: int
    units: int
    rank: int | None
    statistics: GateStatistics


class Examined(NamedTuple):
    """What a trained network is worth on one split of the data."""

    error: float
    """Percent."""
    layers: list[ExaminedLayer]
    theoretical_speedup: float
    inference_speedup: float
    """The theoretical speed-up without the SVD: a trained network has its factors."""


def build_network(config: Config) -> ConditionalMLP:
    """The network that a config describes, with weights drawn from its seed."""
    training = config.training
    torch.manual_seed(training.seed)
    network = ConditionalMLP(
        config.layer_sizes,
        config.ranks,
        config.estimator,
        dropout_input=training.dropout_input,
        dropout_hidden=training.dropout_hidden,
    )
    network.initialise(training.weight_std, training.bias)
    return network


def calibration_images(config: Config, dataset: Dataset) -> Tensor:
    """Training images (samples, features), spread evenly over the training set."""
    images = dataset.train.images
    count = min(config.estimator.calibration, len(images))
    return images[torch.arange(count) * len(images) // count]


def threads_for(network: ConditionalMLP, batch_size: int) -> int:
    """How many threads a network is trained with: those that torch has, but one for every :data:`WORK`.

    On a busy machine a tiny network trains many times slower with two threads than with one, and the sums of
    a dense step depend on their number: so it is the network's, and not only the machine's.
    """
    work = batch_size * sum(layer.weight.numel() for layer in network.linears())
    return max(1, min(torch.get_num_threads(), work // WORK))


class Job:
    """One training job: a network, its data and its folder."""

    def __init__(self, config: Config, dataset: Dataset, folder: Path) -> None:
        self.config = config
        self.folder = folder
        training = config.training
        device = self._device()
        self.data = ArrayDataModule(
            dataset, batch_size=training.batch_size, seed=training.seed, device=device
        )
        steps = -(-len(dataset.train.labels) // training.batch_size)
        every = config.estimator.refresh_steps
        refreshes = 1 / steps
        if every:  # of those that are due at an epoch's last step, the epoch's own takes the place
            refreshes += 1 / every - gcd(every, steps) / (every * steps)
        ways = open_ways(training.step, device, training.precision)
        self.module = ConditionalModule(
            build_network(config), training, refreshes, config.estimator.gates_in_training, ways
        )
        self.calibration = calibration_images(config, dataset).to(device)
        self.threads = threads_for(self.module.network, training.batch_size)
        self._accelerator = "gpu" if device == "cuda" else "cpu"

    def fit(self, run: MetricLog, resume: bool = False, callbacks: Sequence[Callback] = ()) -> Trained:
        """Train; keep the best epoch's weights in the module.

        Args:
            run: where each epoch's figures go.
            resume: go on from the folder's last checkpoint, if there is one.
            callbacks: more of them, called before the job's own.

        Raises:
            DivergedError: the loss became NaN or infinite.
            KeyboardInterrupt: stopped by the user or by SIGTERM.
        """
        training = self.config.training
        saver = checkpoint.SaveCheckpoints(self.folder)
        all_of_them: list[Callback] = [
            *callbacks,
            RefreshFactors(self.calibration, self.config.estimator.refresh_steps),
            TrackMetrics(run),
            ShowProgress(),
            saver,
        ]
        if training.patience is not None:
            all_of_them.append(EarlyStopping(VALIDATION_ERROR.metric, patience=training.patience))
        if training.max_minutes is not None:
            all_of_them.append(WallClock(training.max_minutes))
        trainer = self._trainer(all_of_them)
        last = checkpoint.last(self.folder) if resume else None
        if last is not None and not last.exists():
            log.info("no epoch was finished yet: starting from the beginning")
            last = None
        if self.threads < (there := torch.get_num_threads()):
            log.info("training with %d of %d threads, which is enough for this network", self.threads, there)
        network = self.module.network.to(self.calibration.device)
        with self._computing():
            network.refresh(self.calibration)
            if self.config.ranks.layers is not None:  # other ranks follow the weights, which will change
                tell(0, {"bound": self.module.speedup_bound()})
            trainer.fit(self.module, datamodule=self.data, ckpt_path=last)
        epoch = checkpoint.load_network(self.module.network, checkpoint.best(self.folder))
        return Trained(round(saver.best_error, 4), epoch + 1, trainer.current_epoch)

    def validate(self, run: MetricLog | None = None) -> Examined:
        """What the module's network as it is does on the validation images.

        Args:
            run: where the figures go; None where training logged them, epoch by epoch.
        """
        trainer = self._trainer([] if run is None else [TrackMetrics(run)])
        with self._computing():
            trainer.validate(self.module, datamodule=self.data, verbose=False)
        return self._examined()

    def test(self, run: MetricLog) -> Examined:
        """Test the module's network as it is, once."""
        trainer = self._trainer([TrackMetrics(run)])
        with self._computing():
            trainer.test(self.module, datamodule=self.data, verbose=False)
        return self._examined()

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with _interruptible(), torch_threads(self.threads):
            yield

    def _examined(self) -> Examined:
        """What the last pass found."""
        return Examined(
            error=self.module.error,
            layers=[
                ExaminedLayer(layer.in_features, layer.out_features, layer.rank, shares)
                for layer, shares in zip(
                    self.module.network.hidden, self.module.layer_statistics, strict=True
                )
            ],
            theoretical_speedup=self.module.theoretical_speedup(),
            inference_speedup=self.module.theoretical_speedup(refreshes=0.0),
        )

    def spectra(self) -> list[tuple[str, list[float], int | None]]:
        """Name, singular values of the weights and rank of each hidden layer."""
        return [
            (
                f"{layer.in_features}x{layer.out_features}",
                torch.linalg.svdvals(layer.weight).tolist(),
                layer.rank,
            )
            for layer in self.module.network.hidden
        ]

    def _device(self) -> str:
        wanted = self.config.training.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "training.device=cuda: no CUDA GPU is visible to torch here; use training.device=cpu or auto"
            )
        return wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"

    def _trainer(self, callbacks: list[Callback]) -> pl.Trainer:
        return pl.Trainer(
            accelerator=self._accelerator,
            devices=1,
            precision="bf16-mixed" if self.config.training.precision == "bfloat16" else "32-true",
            max_epochs=self.config.training.epochs,
            callbacks=callbacks,
            # One process, also where SLURM's variables make Lightning think of many.
            plugins=[checkpoint.AtomicCheckpointIO(), LightningEnvironment()],
            default_root_dir=self.folder,
            logger=False,  # figures go to the tracked run, by epoch
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Undo what Lightning, or what it calls, makes of Ctrl-C: an exit with status 1 and SIGINT ignored."""
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    except BaseException as error:
        signal.signal(signal.SIGINT, interrupt)
        if isinstance(error, SystemExit) or is_interrupt(error):
            raise KeyboardInterrupt from None
        raise
