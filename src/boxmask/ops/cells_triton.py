"""Which cells of which map a program of a Triton kernel has."""

import triton
import triton.language as tl


@triton.jit
def cells_of_program(height, width, blocks, BLOCK: tl.constexpr) -> tuple[tl.tensor, ...]:
    """Of programs that share maps out, `blocks` programs a map, BLOCK cells a program.

    Returns:
        The map's number, int64; and of each cell (BLOCK,) its place in the map, row after row,
        whether the map has it, its row and its column.
    """
    number = (tl.program_id(0) // blocks).to(tl.int64)
    cell = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    return number, cell, cell < height * width, cell // width, cell % width
