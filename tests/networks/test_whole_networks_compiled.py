"""A network is compiled and exported whole, for pairs of any size.

In a process of its own: the checks of shapes that the tests put around every function are no part of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import gc, sys, torch, torch._dynamo
from torch import nn
from torch.export import Dim
from maxca.networks import build_network

# Symbolic shapes are slow: the cache of shapes costs more than it saves, and so does searching millions of objects.
gc.disable()
torch._dynamo.config.fake_tensor_cache_enabled = False

class Pair(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
    def forward(self, fixed, moving):
        return self.network(fixed, moving).flow

def pair(*shape):
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1))
    image = 5 * nn.functional.avg_pool3d(noise, 5, 1, 2)
    return image, image.flip(2)

torch.manual_seed(0)
network = build_network("corrxca_tiny")
with torch.no_grad():  # heads begin by moving nothing, which every mistake would do too
    for key, p in network.named_parameters():
        if "heads" in key:
            p.normal_(std=0.02)
module = Pair(network).eval()

def same(other, *shapes):
    for shape in shapes:
        ours, theirs = module(*pair(*shape)), other(*pair(*shape))
        assert ours.abs().max() > 0.1
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)

def exported():
    sizes = {2 + axis: Dim(name, min=20, max=160) for axis, name in enumerate("ijk")}
    return torch.export.export(
        module, pair(20, 21, 22), dynamic_shapes=(sizes, sizes), prefer_deferred_runtime_asserts_over_guards=True
    )

# What follows the capture of the graph, the exporter does as well: functions of the operators of torch alone.
same(torch.compile(module, fullgraph=True, backend="eager"), (16, 20, 24))
program = exported()
same(program.module(), (20, 21, 22), (24, 20, 33))
try:
    import onnxruntime, onnxscript
except ModuleNotFoundError:
    sys.exit(print("without ONNX"))
# Not optimised, which takes as long again: blocks/test_compilers.py has a block that is.
torch.onnx.export(program, dynamo=True, verbose=False, optimize=False).save(sys.argv[1] + "/network.onnx")
session = onnxruntime.InferenceSession(sys.argv[1] + "/network.onnx", providers=["CPUExecutionProvider"])
names = [value.name for value in session.get_inputs()]
def run(*images):
    return torch.from_numpy(session.run(None, dict(zip(names, (x.numpy() for x in images))))[0])
same(run, (20, 21, 22), (24, 20, 33))
"""


@pytest.mark.slow
def test_a_network_gives_the_same_compiled_exported_and_in_onnxruntime(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
