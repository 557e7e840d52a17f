"""A Python file that a user names adds blocks, networks, recipes, measures and readers; nothing else loads it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import phantoms
import pytest
import torch
from torch import nn

import maxca
from maxca import plugins
from maxca.blocks import BLOCKS
from maxca.cli.main import main
from maxca.errors import MaxcaError
from maxca.fields import vocabulary
from maxca.geometry import Grid
from maxca.io.images import read
from maxca.io.readers import READERS
from maxca.losses.similarity import SIMILARITIES, MeanSquares, similarity_measure
from maxca.models.checkpoint import read_description
from maxca.models.load import load_model
from maxca.networks import NETWORKS
from maxca.origins import origin
from maxca.training.recipes import RECIPES

sys.path.append(str(Path(__file__).parent / "training"))

from prepared_data import make

MINE = '''
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from maxca import plugins
from maxca.networks import FlowOptions, NetworkConfig, build_network
from maxca.training.recipes import hippocampus


@plugins.block("squeeze")
class Squeeze(nn.Module):
    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.spread = nn.Conv3d(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.spread(x)


@plugins.network("mine")
def mine(levels: int = 2, flow: FlowOptions = FlowOptions(velocity=True)) -> nn.Module:
    return build_network("corrmlp", encoder_channels=4, decoder_channels=4, levels=levels, flow=flow, block="squeeze")


@plugins.similarity("gradients")
def gradients(fixed, grid, mask, window):
    """Minus the mean squared difference of the gradients: a plain function, differentiated by autograd."""
    def measure(warped):
        return -sum((fixed.diff(dim=axis) - warped.diff(dim=axis)).square().mean() for axis in range(3))
    return measure


@plugins.recipe("quick")
def quick():
    config = hippocampus()
    return replace(config, network=NetworkConfig("mine", {"levels": 2}), steps=2, validate=2, validation_pairs=1,
                   losses=replace(config.losses, similarity="gradients", image=1.0))


@plugins.reader(".voxels")
def voxels(path: Path):
    with np.load(path) as file:
        return file["data"], file["affine"]
'''


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    yield
    for source in plugins.loaded():
        plugins.unload(source)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def tables() -> list[list[str]]:
    return [list(each) for each in (BLOCKS, NETWORKS, RECIPES, SIMILARITIES, READERS, vocabulary("similarity"))]


def test_nothing_of_it_loads_torch() -> None:
    code = "import sys, maxca.plugins; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_plugin_adds_all_kinds_and_takes_them_away_again(mine: Path) -> None:
    before = tables()
    module = maxca.plugins.load(mine)
    assert plugins.load(str(mine)) is module, "executed once"
    added = [set(now) - set(then) for now, then in zip(tables(), before, strict=True)]
    assert added == [{"squeeze"}, {"mine"}, {"quick"}, {"gradients"}, {".voxels"}, {"gradients"}]
    assert plugins.loaded() == [str(mine)] and plugins.arguments() == ["--plugin", str(mine)]
    assert RECIPES["quick"]().recipe == "quick"
    plugins.unload(mine)
    assert tables() == before
    assert plugins.load(mine) is not module


@pytest.mark.usefixtures("forked")
def test_it_is_trained_registered_and_evaluated_with(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "data", 4, (16, 16, 12))
    train = ["train", "quick", "--data", "data", "-o", "run", "--device", "cpu", "--threads", "1"]
    assert main(["--plugin", "mine.py", *train, "-q"]) == 0
    about = read_description("run/last.safetensors")
    assert about["network"]["name"] == "mine" and about["network"]["plugins"] == ["mine.py"]
    config = json.loads(Path("run/run.json").read_text())["config"]
    assert config["plugins"] == ["mine.py"] and config["recipe"] == "quick"
    predicted = load_model("run/last.safetensors").network

    where = phantoms.grid((4.0, 4.0, 4.0))
    for name, through in (("fixed", phantoms.bend), ("moving", lambda x: x)):
        for suffix, what in (("", phantoms.scene), ("_labels", phantoms.regions)):
            seen = phantoms.image(where, through, what)
            np.savez(tmp_path / f"{name}{suffix}", data=seen.data, affine=seen.grid.affine)
            Path(f"{name}{suffix}.npz").rename(f"{name}{suffix}.voxels")
            phantoms.save(tmp_path / f"{name}{suffix}.nii.gz", seen)
    quick = ["--effort", "fast", "--initial-transform", "header", "--threads", "1", "-q"]
    pair = ["-f", "fixed.voxels", "-m", "moving.voxels", "--moving-labels", "moving_labels.voxels"]
    chosen = ["--similarity", "gradients", "--model", "run/last.safetensors"]
    assert main(["register", *pair, *chosen, *quick, "-o", "out", "--plugin=mine.py"]) == 0
    record = json.loads(Path("out/result.json").read_text())
    assert record["command"].startswith(f"maxca --plugin {mine} register")
    score = record["metrics"]["similarity"]
    assert score["name"] == "gradients" and score["after"] > score["before"]
    assert main(["register", "-f", "fixed.nii.gz", "-m", "moving.nii.gz", *chosen, *quick, "-o", "same"]) == 0
    assert np.array_equal(read("out/warped.nii.gz").data, read("same/warped.nii.gz").data)

    (tmp_path / "pairs.csv").write_text(
        "fixed,moving,fixed_labels,moving_labels\nfixed.voxels,moving.voxels,fixed_labels.voxels,moving_labels.voxels\n"
    )
    ours = "maxca:effort=fast,similarity=gradients,model=run/last.safetensors"
    compared = ["--methods", ours, "--jobs", "2", "--threads", "1"]
    assert main(["--plugin", "mine.py", "evaluate", "--pairs", "pairs.csv", "-o", "scores.csv", *compared, "-q"]) == 0
    with Path("scores.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["error"] == ""
    assert float(row["dice"]) > float(row["dice_before"])

    # Without the plugin, each says in one line which one is missing; with it, all is as it was.
    plugins.unload(mine)
    with pytest.raises(
        MaxcaError,
        match=r"last\.safetensors: the similarity measure 'gradients' is defined by a plugin; pass --plugin mine\.py",
    ):
        load_model("run/last.safetensors")
    for words in (
        ["register", *pair[:1], "fixed.nii.gz", "-m", "moving.nii.gz", *chosen[2:], "-o", "no"],
        [*train, "--resume"],
    ):
        capsys.readouterr()
        assert main(words) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "--plugin mine.py" in said
    assert not Path("no").exists()
    assert main(["--plugin", "mine.py", *train, "--resume", "-q"]) == 0
    images = torch.rand(2, 1, 1, 12, 12, 12)
    with torch.no_grad():
        assert torch.equal(load_model("run/last.safetensors").network(*images).flow, predicted(*images).flow)


def test_a_block_of_a_plugin_is_named_by_every_model_that_holds_it(mine: Path, tmp_path: Path) -> None:
    plugins.load(mine)
    for number, block in enumerate(
        ("squeeze", {"name": "squeeze", "kernel": 5}, ["conv", "squeeze"], {"name": "conv_as", "to": "squeeze"})
    ):
        config = maxca.networks.NetworkConfig("corrxca_tiny", {"block": block})
        model = maxca.models.load.Model(config.build(), config)
        model.save(tmp_path / f"{number}.safetensors")
    plugins.unload(mine)
    for number in range(4):
        with pytest.raises(MaxcaError, match=r"the block 'squeeze' is defined by a plugin; pass --plugin mine\.py"):
            load_model(tmp_path / f"{number}.safetensors")
    plugins.load(mine)
    for number in range(4):
        load_model(tmp_path / f"{number}.safetensors")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 +", r"the plugin fails: SyntaxError.*line 1"),
        ("import no_such_package", r"ModuleNotFoundError.*no_such_package.*\(line 1\)"),
        ("plugins.block('a')(list)\n1 / 0", r"ZeroDivisionError: division by zero \(line 3\)"),
        ("plugins.block('maxca')(list)", "a block 'maxca' already exists"),
        ("plugins.network('corrxca')(list)", "a network 'corrxca' already exists"),
        ("plugins.recipe('synth')(list)", "a recipe 'synth' already exists"),
        ("plugins.similarity('lncc')(list)", "a similarity 'lncc' already exists"),
        ("plugins.reader('.nii.gz')(list)", "does not read already"),
        ("plugins.reader('.gz')(list)", "does not read already"),
        ("plugins.reader('npz')(list)", "a suffix with its dot"),
        ("plugins.block('a b')(list)", "'a b' is not a valid name of a block"),
        ("plugins.block('a=b,c')(list)", "is not a valid name of a block"),
        ("plugins.block('a')(3)", "the block a is a int; register a function or class"),
    ],
)
def test_a_plugin_that_fails_leaves_nothing(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(text if text.startswith(("1 +", "import")) else f"from maxca import plugins\n{text}")
    before = tables()
    with pytest.raises(MaxcaError, match=complaint) as error:
        plugins.load(path)
    assert "wrong.py" in str(error.value) or "reader" in str(error.value)
    assert tables() == before and not plugins.loaded()


def test_two_plugins_do_not_take_each_others_names(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text("from maxca import plugins\nplugins.block('ours')(list)\n")
    plugins.load(tmp_path / "first.py")
    with pytest.raises(MaxcaError, match=r"second\.py: a block 'ours' already exists \(.*first\.py\)"):
        plugins.load(tmp_path / "second.py")
    assert origin("block", "ours") == "first.py"


@pytest.mark.parametrize("words", [["--plugin"], ["--plugin", "--help"], ["info", "--plugin="]])
def test_a_missing_name_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "--plugin needs a Python file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "complaint"), [("no.py", "no such file"), ("no", "not a plugin"), ("here.py", "folder")]
)
def test_what_is_no_plugin_is_refused(
    name: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.py").mkdir()
    assert main(["info", "x.nii.gz", "--plugin", name]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and name in said and complaint in said


def test_an_installed_plugin_is_loaded_by_its_name_and_only_then(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    info = site / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[maxca.plugins]\ntheirs = theirs_of_a_test\n")
    (site / "theirs_of_a_test.py").write_text(MINE)
    monkeypatch.syspath_prepend(site)
    before = tables()
    maxca.build_network("corrxca_tiny")
    assert tables() == before
    plugins.load("theirs")
    assert origin("block", "squeeze") == "theirs"
    assert plugins.arguments() == ["--plugin", "theirs"]
    plugins.unload("theirs")
    assert tables() == before
    plugins.load("theirs")
    assert "squeeze" in BLOCKS


def test_a_script_or_notebook_registers_without_a_plugin() -> None:
    try:
        for factory in (nn.Identity, nn.Dropout3d):  # a cell that was changed is run again
            plugins.block("of-a-script")(factory)
            assert BLOCKS["of-a-script"] is factory
        assert origin("block", "of-a-script") is None and not plugins.loaded()
    finally:
        del BLOCKS["of-a-script"]


def test_autograd_gives_the_gradient_of_the_closed_form(tmp_path: Path) -> None:
    (tmp_path / "squares.py").write_text(
        "from maxca import plugins\n\n"
        "@plugins.similarity('squares', contrast='equal')\n"
        "def squares(fixed, grid, mask, window):\n"
        "    return lambda warped: -((fixed - warped) ** 2).mean()\n"
    )
    plugins.load(tmp_path / "squares.py")
    fixed, warped = torch.rand(2, 5, 6, 7)
    with torch.no_grad():
        ours = similarity_measure("squares", fixed, Grid((5, 6, 7), np.eye(4)))(warped)
    closed = MeanSquares(fixed)(warped)
    torch.testing.assert_close(ours.value, closed.value)
    torch.testing.assert_close(ours.gradient, closed.gradient)
    assert SIMILARITIES["squares"].contrast == "equal"


def test_a_reader_that_fails_says_which(tmp_path: Path) -> None:
    text = "from maxca import plugins\nplugins.reader('.bad')(lambda path: 1 / 0)\n"
    (tmp_path / "bad.py").write_text(text + "plugins.reader('.none')(lambda path: None)\n")
    plugins.load(tmp_path / "bad.py")
    for suffix, complaint in (
        (".bad", r"a\.bad: the plugin's reader of \.bad fails: ZeroDivisionError"),
        (".none", "returns no image"),
    ):
        (tmp_path / f"a{suffix}").touch()
        with pytest.raises(MaxcaError, match=complaint):
            read(tmp_path / f"a{suffix}")
    with pytest.raises(MaxcaError, match="no such file"):
        read(tmp_path / "missing.bad")
