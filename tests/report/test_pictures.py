"""What is drawn is looked at by its colours: each layer, each row has one of its own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccsweep.report.canvas import Curve
from ccsweep.report.pictures import draw_rows, draw_run

BLUE, VERMILLION, GREEN = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)
SPECTRA = [("64x256", [4.0, 2.0, 1.0, 0.0], 2), ("256x128", [3.0, 2.0, 1.0], 1)]


def falling(start: float, epochs: int = 12) -> Curve:
    return [(epoch, start / epoch) for epoch in range(1, epochs + 1)]


def logged(epochs: int, gated: bool = True) -> dict[str, Curve]:
    """The history of a network of two hidden layers."""
    history = {"validation/error": falling(9.0, epochs), "validation/loss": falling(1.0, epochs)}
    for layer in (1, 2):
        history[f"validation/layer{layer}/density"] = falling(0.4 if gated else 1.0, epochs)
        history[f"validation/layer{layer}/true_density"] = falling(0.5, epochs)
        if gated:
            history[f"validation/layer{layer}/sign_agreement"] = falling(0.9, epochs)
    return history


def panels(path: Path) -> list[np.ndarray]:
    """The quarters of a picture: top left, top right, bottom left, bottom right; (height, width, 3)."""
    image = np.asarray(Image.open(path).convert("RGB"))
    assert image.shape[1] == 1200
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    image = image[: int(0.94 * len(image))]  # without the legend
    return [half for rows in np.array_split(image, 2) for half in np.array_split(rows, 2, axis=1)]


def has(panel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((panel == colour).all(axis=-1).sum() > 20)


@pytest.mark.parametrize("epochs", [1, 12])
def test_a_run(epochs: int, tmp_path: Path) -> None:
    path = draw_run(tmp_path / "figures.png", "digits 16-12", logged(epochs), SPECTRA)
    error, *by_layer = panels(path)
    assert not has(error, BLUE)
    assert has(error, (0, 0, 0))
    for panel in by_layer:
        assert has(panel, VERMILLION)  # at one epoch it may hide the first layer's blue
        assert not has(panel, GREEN)


def test_a_control_has_densities_and_spectra_but_no_gate(tmp_path: Path) -> None:
    spectra = [(name, values, None) for name, values, _ in SPECTRA]
    path = draw_run(tmp_path / "figures.png", "digits control", logged(12, gated=False), spectra)
    _, gate, density, spectrum = panels(path)
    assert not has(gate, VERMILLION)
    assert has(density, VERMILLION)
    assert has(spectrum, VERMILLION)


def test_a_gate_that_is_never_wrong(tmp_path: Path) -> None:
    right = {"validation/layer1/sign_agreement": [(1, 1.0), (2, 1.0)]}
    _, gate, *_ = panels(draw_run(tmp_path / "figures.png", "full rank", right, []))
    assert has(gate, BLUE)


@pytest.mark.parametrize("spectra", [[], SPECTRA, [("64x256", [0.0, 0.0], 1)]])
def test_a_run_without_epochs(spectra: list, tmp_path: Path) -> None:
    path = draw_run(tmp_path / "figures.png", "digits", {}, spectra)
    assert [has(panel, VERMILLION) for panel in panels(path)] == [False, False, False, spectra is SPECTRA]


def test_the_rows_of_a_grid(tmp_path: Path) -> None:
    curves = {"control": [falling(9), falling(8)], "16-12": [falling(12), falling(11, epochs=7)]}
    path = draw_rows(tmp_path / "rows.png", "digits", curves, {"control": [1.0, 1.2], "16-12": [3.0, 0.1]})
    left, right = (np.concatenate(halves) for halves in zip(*[iter(panels(path))] * 2, strict=True))
    for colour in (BLUE, VERMILLION):
        assert has(left, colour)
        assert has(right[:, : right.shape[1] * 2 // 3], colour)


@pytest.mark.parametrize("error", [0.0, 5.0])
def test_one_seed_and_one_epoch(error: float, tmp_path: Path) -> None:
    path = draw_rows(
        tmp_path / "rows.png", "digits", {"a": [[(1, error)]], "b": [[(1, 50.0)]]}, {"a": [error], "b": [9.0]}
    )
    assert has(np.concatenate(panels(path), axis=1), VERMILLION)
