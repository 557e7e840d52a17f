"""What compilers, exporters and function transforms make of the blocks: the same numbers as on a CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from maxca.blocks import BLOCKS, layers

SIZES = {"window": {"window": 3}, "self_attention": {}, "gmlp": {"windows": (3, 5)}}
MAXCA_LIKE = ("maxca", "regional", "dilated", "xca")


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    arguments = SIZES.get(name, {"heads": 2, "region": (3, 4, 2)} if name in MAXCA_LIKE else {})
    if name == "xca":
        arguments = {"heads": 2}
    return BLOCKS[name](8, **arguments).eval()


def volume(*shape: int, channels: int = 8) -> Tensor:
    return torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def formula(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module, Tensor], Tensor]:
    """A module computed by its formula, as on a GPU."""

    def computed(module: nn.Module, x: Tensor) -> Tensor:
        with monkeypatch.context() as patched:
            patched.setattr(layers, "eager_on_cpu", lambda _: False)
            return module(x)

    return computed


@pytest.mark.parametrize("options", [{}, {"mask_padding": True}, {"normalise": False, "temperature": 9.0}])
@pytest.mark.parametrize("shape", [(7, 5, 6), (6, 8, 4), (1, 1, 1)])
@pytest.mark.parametrize("name", MAXCA_LIKE)
def test_the_formula_gives_what_the_cpu_gives(
    name: str,
    shape: tuple[int, int, int],
    options: dict[str, float],
    formula: Callable[[nn.Module, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    block = BLOCKS[name](8, heads=2, region=(3, 4, 2), **options).double()
    outcomes = []
    for compute in (block, lambda x: formula(block, x)):
        x = volume(*shape).double().requires_grad_()
        block.zero_grad()
        out = compute(x)
        (out * torch.linspace(-1, 1, out.numel(), dtype=x.dtype).view_as(out)).sum().backward()
        outcomes.append([out, x.grad, *(p.grad.clone() for p in block.parameters())])
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs)


COMPILING = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from test_compilers import BLOCKS, built, volume
failed = {}
for name in BLOCKS:
    torch.compiler.reset()
    block, x = built(name), volume(16, 17, 18)
    try:
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), block(x), atol=1e-4, rtol=1e-4)
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""


def test_blocks_compile_without_a_graph_break() -> None:
    # In a process of its own: the checks of shapes that the tests put around every function are no part of a block.
    command = [sys.executable, "-c", COMPILING, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {}


def exported(module: nn.Module, *inputs: Tensor) -> torch.export.ExportedProgram:
    """A module for volumes of any size from 16 to 48; that a size leaves nothing to pad is no condition of its own."""
    sizes = {2 + axis: Dim(name, min=16, max=48) for axis, name in enumerate("ijk")}
    from torch._dynamo import config  # takes seconds, for every worker that collects this file

    with config.patch(fake_tensor_cache_enabled=False):  # slower than none, where sizes are symbols
        return torch.export.export(
            module, inputs, dynamic_shapes=(sizes,) * len(inputs), prefer_deferred_runtime_asserts_over_guards=True
        )


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_exported_for_volumes_of_any_size(name: str) -> None:
    block = built(name)
    program = exported(block, volume(16, 17, 18)).module()
    for shape in ((16, 17, 18), (19, 24, 21)):
        torch.testing.assert_close(program(volume(*shape)), block(volume(*shape)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", BLOCKS)
def test_function_transforms_give_the_gradient(name: str) -> None:
    block, x = built(name), volume(9, 6, 7)
    parameters = {key: p.detach() for key, p in block.named_parameters()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(block, values, (x,)).square().sum()

    found = torch.func.grad(loss)(parameters)
    loss(dict(block.named_parameters())).backward() if parameters else None
    for key, p in block.named_parameters():
        torch.testing.assert_close(found[key], p.grad)


def test_onnxruntime_gives_the_same(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    block = built("maxca")
    torch.onnx.export(exported(block, volume(16, 17, 18)), dynamo=True, verbose=False).save(tmp_path / "block.onnx")
    session = runtime.InferenceSession(tmp_path / "block.onnx", providers=["CPUExecutionProvider"])
    for shape in ((16, 17, 18), (19, 24, 21)):
        (theirs,) = session.run(None, {session.get_inputs()[0].name: volume(*shape).numpy()})
        np.testing.assert_allclose(theirs, block(volume(*shape)).detach().numpy(), atol=1e-4)


def test_the_folder_is_enough_to_train_a_unet_of_monai(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    shutil.copytree(Path(layers.__file__).parent, tmp_path / "blocks", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "train.py").write_text(TRAINING)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "train.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, last = map(float, done.stdout.split())
    assert last < 0.7 * first


TRAINING = """
import sys
sys.path.insert(0, ".")
import torch
from blocks import MAXCA
from monai.losses import DiceLoss
from monai.networks.nets import UNet
assert "maxca" not in sys.modules
torch.manual_seed(0)
unet = UNet(spatial_dims=3, in_channels=1, out_channels=8, channels=(8, 16), strides=(2,), norm="instance")
network = torch.nn.Sequential(unet, MAXCA(8, heads=2, region=4), torch.nn.Conv3d(8, 1, 1))
optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
image = torch.randn(2, 1, 16, 16, 16)
target = (torch.nn.functional.avg_pool3d(image, 5, 1, 2) > 0).float()
loss = DiceLoss(sigmoid=True)
values = []
for _ in range(25):
    optimiser.zero_grad()
    value = loss(network(image), target)
    value.backward()
    optimiser.step()
    values.append(float(value))
print(values[0], values[-1])
"""
