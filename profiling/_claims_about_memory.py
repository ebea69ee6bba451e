"""The paper's claims about memory, judged by the bytes that memray has measured."""

from __future__ import annotations

from _common import MIB, geometric_mean
from _store import Record
from _verdicts import HOLDS, IN_PART, NO, Answer, Records, all_some_none, in_words, listed, so_far, unknown
from resnet101 import total, weighted

import pymec

COMMAND = "paper_memory.py"
NEAR = 0.1
"""A saving is about k/s if it is within this share of it."""


def savings(records: list[Record], label: str, than: str, batch: int) -> dict[str, float]:
    """How many times fewer bytes than ``than`` an algorithm takes on each layer, on one thread."""
    found = {
        record.cell["layer"]: record.values
        for record in records
        if (record.cell["i_n"], record.cell["n_threads"]) == (batch, 1)
    }
    return {
        layer: found[layer][than]["workspace"] / found[layer][label]["workspace"]
        for layer in pymec.layers.PAPER
        if layer in found and label in found[layer] and than in found[layer]
    }


def each_layer(records: Records) -> Answer:
    """Holds if the paper's L is smaller than im2col's matrix on all layers, in part if on some."""
    found = savings(records.memory, "mec_paper", "im2col", 1)
    if not found:
        return unknown(COMMAND)
    verdict = all_some_none(ratio > 1 for ratio in found.values())
    larger = listed(layer for layer, ratio in found.items() if ratio <= 1)
    why = {
        HOLDS: "L has each image row of a strip once; im2col's matrix has it for every output row that reads it.",
        IN_PART: f"On {larger} output rows share no image rows, and L has rows besides that no output row reads.",
        NO: "Output rows share no image rows in these layers, so there is nothing to save.",
    }
    return Answer(f"Smaller on {in_words(found)} times.{so_far(found)}", verdict, why[verdict])


def k_over_s(records: Records) -> Answer:
    """Holds if every saving is within a tenth of k_h ÷ s_h, in part if at least half of them are."""
    strides = by_stride(records.strides)
    layers = savings(records.memory, "mec_paper", "im2col", 1)
    if not strides or not layers:
        return unknown("stride_sweep.py --what memory" if layers else COMMAND)
    kernel = pymec.layers.get(layer_of(records.strides)).k_h
    of_strides = [saving / (kernel / stride) for stride, saving in strides.items()]
    of_layers = {}
    for name, saving in layers.items():
        layer = pymec.layers.get(name)
        of_layers[name] = saving / (layer.k_h / layer.s_h)
    near = [abs(share - 1) <= NEAR for share in (*of_strides, *of_layers.values())]
    verdict = HOLDS if all(near) else IN_PART if sum(near) >= len(near) / 2 else NO
    least = min(of_layers, key=lambda name: of_layers[name])
    measured = (
        f"{layer_of(records.strides)} at strides {min(strides)} to {max(strides)}: {min(of_strides):.2f} to "
        f"{max(of_strides):.2f} of k/s. The layers: {of_layers[least]:.2f} ({least}) to "
        f"{max(of_layers.values()):.2f} of it; {sum(near)} of {len(near)} within {NEAR:.0%}."
    )
    why = "The saving is o_h·k_h/i_h, which is k/s less the share (k_h - s_h)/i_h of it: "
    rest = (
        "little in a high image, much in a low one." if verdict != HOLDS else "little in images as high as these."
    )
    return Answer(measured, verdict, why + rest)


def taller_than_stride(records: Records) -> Answer:
    """Holds if L is smaller at every stride below the kernel's height, in part if at some of them."""
    strides = by_stride(records.strides)
    if not strides:
        return unknown("stride_sweep.py --what memory")
    name = layer_of(records.strides)
    kernel = pymec.layers.get(name).k_h
    below = {stride: saving for stride, saving in strides.items() if stride < kernel}
    verdict = all_some_none(saving > 1 for saving in below.values())
    measured = f"{name}, at {sum(saving > 1 for saving in below.values())} of {len(below)} strides below {kernel}."
    if kernel in strides:
        measured += f" At stride {kernel} im2col's matrix is {strides[kernel]:.2f} times as large as L."
    why = {
        HOLDS: "At k_h = s_h patches share no rows any more, and the paper's L still has the image rows below the "
        "last patch. Tuned ``mec`` leaves them out, and is never larger than im2col's matrix.",
        IN_PART: "Where a patch shares few rows with the next, image rows that no output row reads outweigh them.",
        NO: "The image rows that no output row reads outweigh what patches share.",
    }
    return Answer(measured, verdict, why[verdict])


def by_stride(records: list[Record]) -> dict[int, float]:
    """im2col's bytes ÷ published MEC's, by stride."""
    sizes = {r.cell["stride"]: r.values for r in records if r.cell["what"] == "memory"}
    return {
        stride: of["im2col"]["workspace"] / of["mec_paper"]["workspace"] for stride, of in sorted(sizes.items())
    }


def layer_of(records: list[Record]) -> str:
    """The layer of the sweep."""
    return str(records[-1].cell["layer"])


def whole_batch(records: Records) -> Answer:
    """Holds if L is smaller on all layers than both of im2col's matrices, the batch's and one image's."""
    by_batch = savings(records.memory, "mec_paper", "im2col", 32)
    by_image = savings(records.memory, "mec_paper", "im2col_per_image", 32)
    if not by_batch or not by_image:
        return unknown(f"{COMMAND} --batch 32")
    goods = [all(ratio > 1 for ratio in found.values()) for found in (by_batch, by_image)]
    verdict = all_some_none(goods)
    measured = (
        f"Against im2col of the whole batch smaller on {in_words(by_batch)} times. Against im2col of one image "
        f"after the other (``im2col_per_image``, as in Caffe) on {in_words(by_image)}.{so_far(by_batch)}"
    )
    why = {
        HOLDS: "L is smaller than even one image's im2col matrix.",
        IN_PART: "Algorithm 2 lowers all images at once. im2col can lower one after the other into the same "
        "matrix; so can MEC, as ``mec_vanilla`` and ``mec_banded`` do, but not with Solution A.",
        NO: "L of the whole batch is larger than either matrix on some layer.",
    }
    return Answer(measured, verdict, why[verdict])


def winograd(records: Records) -> Answer:
    """Holds if both tiles of Winograd's, all at once, need more than MEC on all layers that they can do."""
    found = {
        f"F({tile}×{tile}, 3×3)": savings(records.memory, "mec_paper", f"winograd_f{tile}", 1) for tile in (2, 4)
    }
    why = "It keeps transforms of the input, of the output and of the kernel, for all tiles and channels."
    banded = savings(records.memory, "mec_paper", "winograd_f4_banded", 1)
    return transforms(found, why, "``winograd_f4_banded``, a band of tiles at a time,", banded)


def fft(records: Records) -> Answer:
    """Holds if the spectra of all planes need more than MEC on all layers."""
    found = {"The spectra of all planes": savings(records.memory, "mec_paper", "fft", 1)}
    why = "Every kernel is padded to the size of the image, and has a spectrum for each pair of channels."
    lean = savings(records.memory, "mec_paper", "fft_lean", 1)
    return transforms(found, why, "``fft_lean``, one spectrum of the kernel at a time,", lean)


def transforms(found: dict[str, dict[str, float]], why: str, small: str, smaller: dict[str, float]) -> Answer:
    """What both transforms have in common; ``smaller`` are the ratios of the form that needs less."""
    if not all(found.values()):
        return unknown(COMMAND)
    ratios = [ratio for of in found.values() for ratio in of.values()]
    verdict = all_some_none(ratio > 1 for ratio in ratios)
    parts = [f"{name}: more on {in_words(of)} times." for name, of in found.items()]
    less = sum(ratio < 1 for ratio in smaller.values())
    if smaller:
        parts.append(f"{small} needs less than MEC on {less} of {len(smaller)}.")
    reasons = {
        HOLDS: why + (" Cut into parts it can need less, as MEC can." if less else ""),
        IN_PART: why + " On some layers that is still less than L.",
        NO: "On these layers the transforms are smaller than L.",
    }
    return Answer(" ".join(parts), verdict, reasons[verdict])


def resnet_memory(records: Records) -> Answer:
    """Holds if the weighted sum is smaller."""
    of = [r for r in records.memory if (r.cell["i_n"], r.cell["n_threads"]) == (1, 1)]
    found = weighted(of, "workspace")
    if not found:
        return unknown(COMMAND)
    im2col, mec = total(found, "im2col"), total(found, "mec_paper")
    saved = {layer: found["im2col"][layer] - found["mec_paper"][layer] for layer in found["im2col"]}
    most = max(saved, key=lambda layer: saved[layer])
    measured = f"{im2col / mec:.2f} times less: {mec / MIB:.1f} MiB against {im2col / MIB:.1f}."
    if im2col <= mec:
        return Answer(measured, NO, "What the strips share doesn't make up for the rows that no output row reads.")
    mean = geometric_mean(found["im2col"][layer] / found["mec_paper"][layer] for layer in saved)
    share = saved[most] / sum(saved.values())
    why = f"{most} alone brings {share:.0%} of what is saved; the layers' mean is {mean:.2f}."
    return Answer(measured, HOLDS, why)
