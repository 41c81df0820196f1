"""The kernels for GPUs, in Triton's interpreter where there is no GPU."""

import subprocess
import sys

import pytest
import torch

from references import mask_heads as reference

pytest.importorskip("triton")

from boxmask.ops.dynamic_mask_triton import BLOCK, FusedThreeLayers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def fused(inputs, counts):
    starts = torch.tensor([0, *counts]).cumsum(0)
    found = FusedThreeLayers.apply(*(one.to(DEVICE) for one in inputs), starts.to(DEVICE))
    return found.cpu()


@pytest.mark.parametrize("counts", [(5,), (1, 4), (0, 3, 0), (16, 1)])
@pytest.mark.parametrize(("cells", "features"), [(1, 16), (3 * 53, 16), (BLOCK, 4)])
def test_equals_the_plain_form(counts, cells, features):
    reference.assert_equal_to_exact(fused, counts, cells, features)


def test_no_objects():
    reference.assert_nothing_from_no_objects(fused)


def test_large_numbers_stay_finite_and_right():
    reference.assert_large_numbers_right(fused)


@pytest.mark.parametrize("which", range(6))
def test_a_nan_is_not_swallowed(which):
    reference.assert_nan_kept(fused, which)


SCRIPT = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from boxmask.ops import certain_masks_triton as masks, guided_filter_triton as borders
from boxmask.ops import color_model_triton as colors, dynamic_mask_triton as head
from boxmask.ops import pairwise_triton as pairwise, sinkhorn_triton as sinkhorn
from boxmask.ops import ties_triton as ties

def compiled(kernel, constants, options, **kinds):
    names = kernel.arg_names
    kinds |= {name: "constexpr" for name in constants}
    signature = {name: kinds.get(name, "*fp32") for name in names}
    constants = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, constants)
    target = GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options=options).asm["cubin"]

numbers = ("num_rows", "cells", "height", "width", "down", "across")
numbers = {name: "i32" for name in numbers}
pointers = {"starts": "*i64", "down": "*fp32"}
forward = {"BLOCK": head.BLOCK, "NUM_ROWS": 19}
backward = {"BLOCK": head.BACKWARD_BLOCK, "ROWS_SIDE": 32}
fewer = {"num_warps": head.BACKWARD_WARPS, "num_stages": 1}
assert compiled(head._forward, forward, {"num_warps": head.WARPS}, **(numbers | pointers))
assert compiled(head._backward, backward, fewer, **(numbers | pointers))
pointers = {"similar": "*u8", "inside": "*u8", "image_index": "*i64", "tiles": "*u8"}
pointers["edges"] = "*i32"
tile = {"HIGH": pairwise.HIGH, "WIDE": pairwise.WIDE}
for kernel in (
    pairwise._note_tiles, pairwise._pack_edges, pairwise._sums, pairwise._gradient,
):
    sizes = tile if kernel is pairwise._note_tiles else tile | {"DILATION": 2}
    assert compiled(kernel, sizes, {"num_warps": pairwise.WARPS}, **(numbers | pointers))
sizes = {"EPSILON": 0.05, "EVERY": 10, "LEAST": 1e-100, "ROWS": 1024, "COLUMNS": 16}
numbers = dict.fromkeys(("rows", "columns", "iterations"), "i32")
pointers = {"marginals": "*fp64", "valid": "*u8"}
assert compiled(sinkhorn._solve, sizes, {"num_warps": sinkhorn.WARPS}, **(numbers | pointers))
sizes = {"SPREAD": 5.0, "LEAST": 1e-3, "ASKED": 24, "OF_OBJECT": 12, "OF_OTHERS": 16}
sizes |= {"BLOCKS": 18, "BLOCK": colors.BLOCK, "CHUNK": colors.CHUNK}
numbers = {"height": "i32", "width": "i32", "outside": "*u8", "image_index": "*i64"}
assert compiled(colors._compare, sizes, {"num_warps": colors.WARPS}, **numbers)
bytes_of = dict.fromkeys(("valid", "hidden", "tied", "outside", "foreground", "certain"), "*u8")
numbers = dict.fromkeys(("height", "width", "channels", "cells", "blocks"), "i32")
numbers |= dict.fromkeys(("step_b", "step_c", "step_y", "step_x"), "i32") | bytes_of
indices = {"image_index": "*i64", "index": "*i64"}
sizes = {"BLOCK": ties.BLOCK, "CHANNELS": ties.CHANNELS}
options = {"num_warps": ties.WARPS}
rule = {"DILATION": 2, "LEAST": 0.3, "COLOR_REACH": 15.0, "FEATURE_REACH": 1.2} | sizes
for kind, textures in (("*fp32", False), ("*bf16", True)):
    assert compiled(ties._spread, sizes, options, **(numbers | {"features": kind}))
    constants = rule | {"TEXTURES": textures}
    assert compiled(ties._tie, constants, options, **(numbers | {"features": kind}))
sizes = {"STRIDE": 4, "BELOW": 4.0, "INNER": 49, "AROUND": 52, "POINTS": ties.POINTS}
sizes |= {"ROWS": ties.TILE[0], "COLUMNS": ties.TILE[1]}
assert compiled(ties._hide, sizes, options, **(numbers | indices))
sizes, options = {"BLOCK": masks.BLOCK}, {"num_warps": masks.WARPS}
assert compiled(masks._distance, sizes | {"SMALL": 1e-5}, options, **(numbers | indices))
assert compiled(masks._slope, sizes, options, **(numbers | indices))
sizes = {"RADIUS": 2, "BLOCK": borders.BLOCK}
options = {"num_warps": borders.WARPS}
assert compiled(borders._guide, sizes | {"SMOOTHNESS": 1e-5}, options, **numbers)
assert compiled(borders._fit, sizes, options, **(numbers | indices))
assert compiled(borders._join, sizes | {"NO_BORDER": 1e-4}, options, **(numbers | indices))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_kernels_compile_for_a_gpu(monkeypatch):
    """To machine code, without a GPU: the interpreter takes what the compiler does not."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
