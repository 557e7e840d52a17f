"""The training of a segmentation network on labelled scans of any organ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from maxca.datasets.prepared import Prepared, PreparedScan
from maxca.engine.settings import COARSEST
from maxca.errors import MaxcaError
from maxca.fields import OptionError
from maxca.io.atomic import atomic_path
from maxca.models.load import Spacing
from maxca.models.segmentation import BACKGROUND, Segmenter
from maxca.models.segmentation_file import load_any, save_segmenter
from maxca.models.zoo import find_model
from maxca.networks.segmentation import SegmentationUNet
from maxca.training.architecture import architecture
from maxca.training.config import SegmentationConfig
from maxca.training.guide import label_names
from maxca.training.labelled import LabelledScans, extent_of, volume_of
from maxca.training.loader import Scans
from maxca.training.segmented import Measured, SegmentationValidation
from maxca.training.sides import counterparts
from maxca.training.task import Validated
from maxca.training.validation import with_spare
from maxca.training.variation import Anatomy, repainted, reshaped
from maxca.training.voxels import AtVoxels, chosen_voxels, voxel_loss

FINEST = 1.5  # voxels: a registration is not guided at levels of smaller ones, as with the bundled models,
SMALL = 2 * COARSEST  # unless its images are smaller than this along their longest axis: they have hardly other levels
SAME = 1e-3  # of a spacing


class SegmentationTask:
    """A network that labels a scan; see ``Task``.

    Args:
        config: of the run.
        data: prepared scans.

    Raises:
        MaxcaError: if there are no labels to train on.
    """

    def __init__(self, config: SegmentationConfig, data: Prepared) -> None:
        self.config, self.data = config, data
        self.scans = Scans(data)
        training = [scan for scan in data.scans if scan.split == "train"]
        labelled = [scan for scan in training if self.scans(scan).labels is not None]
        self.unlabelled = len(training) - len(labelled)
        self.numbers = _numbers(self.scans, labelled, data)
        self.examples = LabelledScans(self.scans, labelled, self.numbers, config.seed)
        shapes = [each.image.shape for each in self.examples.contents]
        spacings = [scan.spacing for scan in labelled]
        self.design = architecture(shapes, spacings, len(config.channels), config.crop)
        self.examples.crop = self.design.shape
        self.spacing = tuple(np.median(spacings, axis=0).tolist())
        self.names = {n: data.names.get(n, str(n)) for n in self.numbers} | {0: BACKGROUND}
        self.extent_mm = with_spare([extent_of(volume_of(self.scans, scan)) for scan in labelled])
        self.common_mm = _common_spacing(labelled)
        longest = max(n * mm for n, mm in zip(np.median(shapes, axis=0), self.spacing, strict=True))
        self.finest_mm = FINEST * min(self.spacing) if longest > SMALL * min(self.spacing) else 0.0
        self.validation = SegmentationValidation(self.scans, config.validation_pairs)

    def warnings(self) -> Sequence[str]:
        """Training scans without labels, and missing validation scans."""
        lines = []
        if self.unlabelled:
            lines.append(f"{self.unlabelled} training scans have no labels and are skipped")
        if not self.validation.chosen:
            lines.append(
                "there are no labelled validation scans, so the last network counts as the best; assign some subjects "
                "to the split val (maxca prepare LIST.csv, column split)"
            )
        return lines

    def network(self) -> SegmentationUNet:
        """A network for the scans of the data."""
        found = self.design
        channels = self.config.channels[: len(found.strides) + 1]
        finest = self.config.finest
        return SegmentationUNet(len(self.numbers), channels, found.fold, found.strides, finest=finest)

    def trained(self, network: nn.Module) -> nn.Module:
        """The network at some voxels."""
        assert isinstance(network, SegmentationUNet)
        return AtVoxels(network)

    def weights(self, init: str | Path) -> dict[str, Tensor]:
        """The weights of a segmentation model of the same network; without those of its classes, if they differ."""
        model = load_any(find_model(init))
        if not isinstance(model, Segmenter):
            raise OptionError("init", init, "a registration model; a segmentation network starts from one of its kind")
        theirs, ours = model.network.arguments | {"classes": None}, self.network().arguments | {"classes": None}
        if theirs != ours:
            raise MaxcaError(f"{init}: is a {theirs}, but these scans need a {ours}")
        state = model.network.state_dict()
        same = list(model.names) == self.numbers
        return {name: tensor for name, tensor in state.items() if same or not name.startswith("classes.")}

    def samples(self) -> LabelledScans:
        """Labelled training scans."""
        return self.examples

    def terms(self, model: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Cross-entropy and 1 minus soft Dice at some voxels of the augmented scans."""
        images, classes, where = self._augmented(batch)
        truths = classes.flatten(1).gather(1, where)
        losses = [voxel_loss(*each) for each in zip(model(images, where), truths, strict=True)]
        entropy, misses = (torch.stack(each).mean() for each in zip(*losses, strict=True))
        return {"loss": entropy + misses, "entropy": entropy, "misses": misses}

    @torch.no_grad()
    def _augmented(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Training images (B, 1, I, J, K), their classes, and the chosen voxels (B, M); each scan by its own seed."""
        device, how = batch["image"].device, self.config.variation
        anatomy = self._anatomy(device)
        samples: list[tuple[Tensor, ...]] = []
        for n, seed in enumerate(batch["seed"].tolist()):
            random = torch.Generator(device).manual_seed(seed)
            image, labels = batch["image"][n : n + 1].float() / 255, batch["classes"][n : n + 1]
            centre = batch["centre"][n : n + 1]
            image, labels = reshaped(image, labels, anatomy, how, random, shape=self.design.shape, centre=centre)
            image = repainted(image, labels, anatomy, how, random)
            where = chosen_voxels(image, labels, min(self.config.voxels, image.numel()), random)
            samples.append((image, labels, where))
        images, classes, places = (torch.cat(each) for each in zip(*samples, strict=True))
        return images, classes, places

    def validate(self, network: nn.Module, fabric: Fabric) -> Validated:
        """Segment the validation scans, and measure what a model knows of itself."""
        assert isinstance(network, SegmentationUNet)
        segmenter = Segmenter(
            network.eval(),
            self.names,
            spacing=self.common_mm,
            shape=self.data.shape,
            extent_mm=self.extent_mm,
            finest_mm=self.finest_mm,
            mirror=self._mirror(),
        )
        measured = self.validation(segmenter, fabric.device)
        model = replace(segmenter, confidence=measured.least_confidence, calibration=measured.calibration)

        def save(path: Path) -> None:
            save_segmenter(replace(model, name=path.stem), path)
            if measured.row:
                with atomic_path(path.with_suffix(".tsv")) as unfinished:
                    unfinished.write_text(_table(measured, self.names), encoding="utf-8")

        return Validated(measured.row, save)

    def _anatomy(self, device: torch.device) -> Anatomy:
        i, j, k = self.spacing
        mirror = self._mirror()
        tissues = torch.arange(len(self.numbers), device=device)
        return Anatomy((i, j, k), None if mirror is None else torch.tensor(mirror, device=device), tissues)

    def _mirror(self) -> tuple[int, ...] | None:
        """The counterpart of each class, if scans are mirrored in training."""
        swapped = counterparts(self.names) if self.data.names and self.config.variation.mirror else None
        return None if swapped is None else tuple(swapped)


def _numbers(scans: Scans, labelled: Sequence[PreparedScan], data: Prepared) -> list[int]:
    """The labels of the training scans, with 0, the background, as the first.

    Raises:
        MaxcaError: if there are none, or fewer than two different values.
    """
    advice = "give label maps in the column labels of the list for maxca prepare"
    if not labelled:
        raise MaxcaError(f"{data.folder}: no scan of the split train has labels; {advice}")
    numbers = label_names(scans)
    if not numbers:
        raise MaxcaError(f"{data.folder}: the labels of the training scans are 0 everywhere; {advice}")
    if numbers[0] < 0:
        raise MaxcaError(f"{data.folder}: the labels of the training scans contain {numbers[0]}; use positive numbers")
    background = any((scans(scan).labels == 0).any() for scan in labelled)  # type: ignore[union-attr]
    if len(numbers) == 1 and not background:
        raise MaxcaError(f"{data.folder}: the labels of the training scans are {numbers[0]} everywhere; {advice}")
    return [0, *numbers]


def _common_spacing(scans: Sequence[PreparedScan]) -> Spacing:
    """The spacing that all scans share along each axis; None where they differ."""
    all_mm = np.array([scan.spacing for scan in scans])
    i, j, k = (float(mm[0]) if np.ptp(mm) <= SAME * mm[0] else None for mm in all_mm.T)
    return i, j, k


def _table(measured: Measured, names: Mapping[int, str]) -> str:
    """Dice of each label, as a BIDS look-up table: index, name and Dice."""
    rows = [f"{number}\t{names[number]}\t{score:.4f}" for number, score in measured.dice.items()]
    return "\n".join(["index\tname\tdice", *rows]) + "\n"
