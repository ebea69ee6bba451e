"""The paper's claims about time, judged by calls that took turns."""

from __future__ import annotations

from _common import geometric_mean
from _in_turns import kernels_in
from _store import Record
from _tables import groups, plural, ratio
from _verdicts import HOLDS, IN_PART, NO, Answer, Records, in_words, listed, mostly, so_far, together, unknown
from resnet101 import WEIGHTS, total, weighted
from scipy.stats import spearmanr

import pymec

COMMAND = "paper_time.py"
PAPERS_KERNELS = "Sandybridge"
"""OpenBLAS's kernels for CPUs with AVX and without AVX2."""

BESIDE = {
    "mec": "tuned MEC (``mec``)",
    "im2col_blocked": "blocked im2col with the same register tiles",
    "auto": 'what "auto" takes',
}

REASONS = {
    HOLDS: "Writing im2col's matrix takes a good part of its time, and MEC writes a fraction of that.",
    NO: "Each output row is a product of o_w rows, and BLAS packs K again for every one; im2col packs it for far "
    "larger products. That outweighs what MEC saves by writing less.",
}

PER_IMAGE = {
    HOLDS: " Against im2col of one image after the other it does better.",
    IN_PART: " Against im2col of one image after the other, in a smaller matrix, it wins on some layers.",
    NO: " im2col of one image after the other writes its rows into a matrix smaller than L, and is faster.",
}
"""What is added where the two ways of im2col lead to different verdicts."""

# Faster than im2col -------------------------------------------------------------------------------------


def batch_1_one_thread(records: Records) -> Answer:
    """By the rule of :func:`_verdicts.mostly`."""
    return faster(records.time, 1, 1)


def batch_1_threads(records: Records) -> Answer:
    """The same on the most threads."""
    most = max((record.cell["n_threads"] for record in records.time if record.cell["i_n"] == 1), default=1)
    return faster(records.time, 1, most) if most > 1 else unknown(f"{COMMAND} --threads 2")


def batch_32(records: Records) -> Answer:
    """The same with 32 images on the most threads, against im2col of the whole batch and of one image."""
    most = max((record.cell["n_threads"] for record in records.time if record.cell["i_n"] == 32), default=1)
    return faster(records.time, 32, most)


def faster(records: list[Record], batch: int, n_threads: int) -> Answer:
    """Published MEC against im2col under the CPU's own kernels; other kernels and tuned forms beside it."""
    chosen = [r for r in records if (r.cell["i_n"], r.cell["n_threads"]) == (batch, n_threads)]
    if not chosen:
        return unknown(COMMAND)
    first, *others = kernels_in(chosen)
    own = speeds(chosen, first, "mec_paper", "im2col")
    if not own:
        return unknown(COMMAND)
    where = f"BLAS's {first} kernels{note(chosen, first)}, {plural(n_threads)}"
    parts = [f"{where}: faster on {in_words(own)} times as fast.{so_far(own)}"]
    verdicts = [mostly(own.values())]
    reason = why(own)
    if batch > 1:
        per_image = speeds(chosen, first, "mec_paper", "im2col_per_image")
        parts.append(f"Against im2col of one image after the other: {in_words(per_image)}.")
        verdicts.append(mostly(per_image.values()))
        reason += PER_IMAGE[verdicts[1]] * (len(set(verdicts)) > 1)
        parts += fewer_threads(records, first, batch, n_threads)
    for kernel in others:
        parts.append(f"{kernel} kernels: {short(speeds(chosen, kernel, 'mec_paper', 'im2col'))}.")
    beside = {label: speeds(chosen, first, label, "im2col") for label in BESIDE}
    words = [f"{BESIDE[label]} {geometric_mean(found.values()):.2f}" for label, found in beside.items() if found]
    if words:
        parts.append(f"Beside it, times as fast as im2col: {listed(words)}.")
    return Answer(" ".join(parts), together(verdicts), reason)


def fewer_threads(records: list[Record], kernel: str, batch: int, n_threads: int) -> list[str]:
    """A sentence for each smaller number of threads."""
    under = [r for r in records if (r.cell["blas"], r.cell["i_n"]) == (kernel, batch)]
    return [
        f"On {plural(count)}: {short(speeds(of, kernel, 'mec_paper', 'im2col'))}."
        for (count,), of in groups(under, "n_threads").items()
        if count < n_threads
    ]


def why(ratios: dict[str, float]) -> str:
    """The reason that goes with these ratios."""
    verdict = mostly(ratios.values())
    won = [layer for layer, ratio in ratios.items() if ratio > 1]
    lost = [layer for layer in ratios if layer not in won]
    if verdict != IN_PART or not lost:
        return REASONS[verdict]
    where = f"It wins on {listed(won)} and loses on {listed(lost)}."
    wide, narrow = (geometric_mean(pymec.layers.get(layer).shape().o_w for layer in of) for of in (won, lost))
    if wide <= narrow:
        return f"{where} The width of their outputs doesn't tell them apart."
    return (
        f"{where} Outputs of the former are {wide:.0f} wide in geometric mean, of the latter {narrow:.0f}. MEC "
        "writes less than im2col, but multiplies products of o_w rows, and BLAS packs K again for each."
    )


def papers_cpu(records: Records) -> Answer:
    """By the rule of :func:`_verdicts.mostly` for each batch and number of threads under the paper's kernels.

    With several images both of im2col's ways count.
    """
    chosen = [record for record in records.time if record.cell["blas"] == PAPERS_KERNELS]
    if not chosen:
        return unknown(f"{COMMAND} --coretypes native,Haswell,{PAPERS_KERNELS}")
    own = kernels_in(records.time)[0]
    parts, verdicts, gains = [], [], []
    for batch, n_threads in sorted({(r.cell["i_n"], r.cell["n_threads"]) for r in chosen}):
        of = [r for r in records.time if (r.cell["i_n"], r.cell["n_threads"]) == (batch, n_threads)]
        found = speeds(of, PAPERS_KERNELS, "mec_paper", "im2col")
        here = speeds(of, own, "mec_paper", "im2col")
        if not found:
            continue
        verdicts.append(mostly(found.values()))
        both = [layer for layer in found if layer in here]
        gains += [found[layer] / here[layer] for layer in both]
        parts.append(f"batch {batch}, {plural(n_threads)}: {short(found)}")
        if batch > 1:
            per_image = speeds(of, PAPERS_KERNELS, "mec_paper", "im2col_per_image")
            verdicts.append(mostly(per_image.values()))
            parts.append(f"against im2col of one image after the other {short(per_image)}")
    if not verdicts:
        return unknown(f"{COMMAND} --coretypes native,Haswell,{PAPERS_KERNELS}")
    measured = f"OpenBLAS's {PAPERS_KERNELS} kernels on this machine: {'; '.join(parts)}."
    verdict = together(verdicts)
    if own == PAPERS_KERNELS or not gains:
        return Answer(measured, verdict, REASONS.get(verdict, "It depends on layer, batch and threads."))
    gain = geometric_mean(gains)
    compared = f"MEC fares {gain:.2f} times as well against im2col as under the {own} kernels. "
    reasons = {
        True: "The slower BLAS multiplies, the less weighs that it packs K again for each output row.",
        False: "Slower products alone don't make up for packing K again for each output row.",
    }
    return Answer(measured, verdict, compared + reasons[gain > 1])


def speeds(records: list[Record], kernel: str, label: str, than: str) -> dict[str, float]:
    """How many times as fast as ``than`` an algorithm was on each layer."""
    found = {r.cell["layer"]: r for r in records if r.cell["blas"] == kernel}
    return {
        layer: ratio(found[layer], than, label)
        for layer in pymec.layers.PAPER
        if layer in found and label in found[layer].values and than in found[layer].values
    }


def short(ratios: dict[str, float]) -> str:
    """Mean and count."""
    faster_on = sum(value > 1 for value in ratios.values())
    return f"mean {geometric_mean(ratios.values()):.2f}, faster on {faster_on} of {len(ratios)}"


def note(records: list[Record], kernel: str) -> str:
    """A word where kernels are not the CPU's own."""
    own = next(r.how["own"] for r in records if r.cell["blas"] == kernel)
    return "" if own else " (not this CPU's own)"


# By stride ----------------------------------------------------------------------------------------------


def stride_time(records: Records) -> Answer:
    """By the rank correlation of MEC's gain and k/s on one thread: holds from 0.9 on, in part if positive."""
    timed = [r for r in records.strides if r.cell["what"] == "time"]
    if not timed:
        return unknown("stride_sweep.py")
    fewest = min(r.cell["n_threads"] for r in timed)
    parts = []
    first = kernels_in(timed)[0]
    verdict, gained = NO, False
    name = str(timed[-1].cell["layer"])
    kernel_height = pymec.layers.get(name).k_h
    for kernel in kernels_in(timed):
        found = {
            r.cell["stride"]: ratio(r, "im2col", "mec_paper")
            for r in timed
            if (r.cell["blas"], r.cell["n_threads"]) == (kernel, fewest) and r.cell["stride"] < kernel_height
        }
        faster_at = [stride for stride, value in sorted(found.items()) if value > 1]
        ends = [found[stride] for stride in (min(found), max(found))]
        # k/s falls as s rises; ranks tell whether the gain does, however far from a straight line it is
        gains = list(found.values())
        same = len(set(gains)) < 2  # no gain that could rise with k/s
        correlation = 0.0 if same else float(spearmanr([-stride for stride in found], gains).statistic)
        where = f"s = {listed(map(str, faster_at))}" if faster_at else "no stride"
        parts.append(
            f"{kernel} kernels: rank correlation {correlation:.2f}; {ends[0]:.2f} times as fast as im2col at "
            f"s = {min(found)}, {ends[1]:.2f} at s = {max(found)}, faster at {where}"
        )
        if kernel == first:
            verdict = HOLDS if correlation >= 0.9 else IN_PART if correlation > 0 else NO
            gained = bool(faster_at)
    measured = f"{name}, {plural(fewest)}. {'. '.join(parts)}."
    small = "At small strides im2col's matrix is many times as large as L, and to write it takes long. "
    large = "At larger strides outputs are narrow, and BLAS packs K again for each row of them, which costs more "
    large += "than is saved." if gained else "than is saved; so it does at every stride here."
    no = "What MEC saves by writing less is not what decides here."
    return Answer(measured, verdict, no if verdict == NO else small + large)


# ResNet-101 ---------------------------------------------------------------------------------------------


def resnet_time(records: Records) -> Answer:
    """Holds if the weighted time is smaller on every number of threads, in part if on some; batch 1."""
    chosen = [r for r in records.time if r.cell["i_n"] == 1]
    if not chosen:
        return unknown(COMMAND)
    found = {}
    for kernel in kernels_in(chosen):
        for n_threads in sorted({r.cell["n_threads"] for r in chosen}):
            of = [r for r in chosen if (r.cell["blas"], r.cell["n_threads"]) == (kernel, n_threads)]
            seconds = weighted(of, "best")
            if seconds:
                found[kernel, n_threads] = seconds
    if not found:
        return unknown(COMMAND)
    first = next(iter(found))[0]
    gains = {key: total(of, "im2col") / total(of, "mec_paper") for key, of in found.items()}
    own = [gain for (kernel, _), gain in gains.items() if kernel == first]
    verdict = HOLDS if min(own) > 1 else IN_PART if max(own) > 1 else NO
    parts = [f"{kernel} kernels, {plural(n)}: {gain:.2f} times as fast" for (kernel, n), gain in gains.items()]
    seconds = found[first, min(n for kernel, n in found if kernel == first)]
    costs = {layer: seconds["mec_paper"][layer] - seconds["im2col"][layer] for layer in seconds["im2col"]}
    worst, best = max(costs, key=lambda layer: costs[layer]), min(costs, key=lambda layer: costs[layer])
    why = {
        HOLDS: f"It gains most on {about(best)}.",
        IN_PART: f"It gains most on {about(best)}, and loses most on {about(worst)}. Threads decide it.",
        NO: f"It loses most on {about(worst)}.",
    }
    return Answer("; ".join(parts) + ".", verdict, why[verdict])


def about(layer: str) -> str:
    """A layer, how often ResNet-101 has it, and how wide its output is."""
    width = pymec.layers.get(layer).shape().o_w
    return f"{layer}, which the network has {WEIGHTS[layer]} times and whose output is {width} wide"
