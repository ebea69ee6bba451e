"""The registry's formulas as JavaScript, for the explorer's page.

A formula is text, such as ``i_n·o_w·r_h·k_w·i_c``.  It is parsed as Python's arithmetic, node by node, and written
as a JavaScript function of the sizes in it; nothing is evaluated as text, here or in the page.  What is said in
words is known by its pattern, and words that are not known stop the build.  Where a formula names a size that a
schedule chooses (bands, tiles, slices of a cache), the algorithm is left out, and the page says so.

``tests/test_explorer.py`` compares the functions with :func:`pymec.workspace_size`.
"""

import ast
import json
import re
from pathlib import Path

from pymec import layers
from pymec.algorithm import reads_planes
from pymec.kernels.im2col.rows import ROWS as IM2COL
from pymec.kernels.mec.rows import ROWS as MEC
from pymec.registry import ALGORITHMS

DOCS = Path(__file__).parent

SIZES = {
    *("i_n", "i_h", "i_w", "i_c", "k_h", "k_w", "k_c", "s_h", "s_w", "d_h", "d_w", "p_t", "p_b", "p_l", "p_r"),
    *("e_h", "e_w", "o_h", "o_w", "r_h", "r_w", "F_h", "F_w", "S", "S_tile", "G", "slices", "itemsize"),
    *("is_pointwise", "is_row_of_taps"),
}
"""What ``model.js`` works out of a layer, by the names that formulas use."""

# What formulas say in words -----------------------------------------------------------------------------

LOWERS_NOTHING = {
    **dict.fromkeys(("im2col", "im2col_per_image", "mec", "kn2row", "kn2row_aa"), "is_pointwise"),
    **dict.fromkeys(("mec_w", "im2win"), "is_row_of_taps"),
}
"""Shapes of which the image itself is the lowered matrix, which formulas leave to the reader to see."""

NEEDS = {
    "depthwise": ("i_c == 1", "one input channel per group"),
    **dict.fromkeys(("mec_vanilla", "mec_a", "mec_b", "mec_paper"), ("d_h == d_w == 1", "no dilation")),
    **dict.fromkeys(("shift_gemm", "yaconv"), ("s_h == s_w == 1", "stride 1")),
    "filter_row_gemm": ("k_w == 1 or d_w == 1", "no horizontal dilation"),
    "pointwise": ("k_h == k_w == 1", "a 1×1 kernel"),
    **dict.fromkeys(
        ("winograd_f2", "winograd_f4", "winograd_f6"),
        ("k_h == k_w == 3 and s_h == s_w == d_h == d_w == 1", "a 3×3 kernel, stride 1, no dilation"),
    ),
    "direct_grouped": ("(k_c == 1 or k_c == 2 or k_c == 4 or k_c == 8 or k_c == 16) and i_c <= k_c",
                       "1, 2, 4, 8 or 16 output channels, and no more input channels"),
    "direct_dots": ("i_c >= 64 / itemsize", "16 input channels"),
}  # fmt: skip
"""What ``unsupported`` of the registry asks for, among layers of one group that are small enough for BLAS."""


def with_remark(size, remark, definitions):
    """A size, as text, and what a formula adds to it in words."""
    if found := re.fullmatch(r"with (.+) at least (.+)", remark):
        return f"max({size}, {found[2]} if {found[1]} else 0)"
    if found := re.fullmatch(r"with (.+) another (.+)", remark):
        return f"({size}) + ({found[2]} if {found[1]} else 0)"
    if found := re.fullmatch(r"or none if that is (\w+)", remark):
        return f"0 if {list(definitions)[-1]} == {found[1]} else {size}"
    if found := re.fullmatch(r"the latter kept by a plan and 0 if (\w+) or (\w+) is 1", remark):
        former, latter = size.split(" + ")
        return f"{former} + (0 if {found[1]} == 1 or {found[2]} == 1 else {latter})"
    if remark == "S of a tile":
        definitions["S"] = "S_tile"
        return size
    if remark in ("the transposed kernel", "kept by a plan"):
        return size
    raise ValueError(f"docs/formulas.py can't read {remark!r} in a formula of the registry")


# From the registry's text to JavaScript -----------------------------------------------------------------


def python_of(formula):
    """A formula's size as Python arithmetic, the names that it defines, and what it adds in words."""
    for sign, python in (("·", "*"), ("⌈", "ceil("), ("⌊", "floor("), ("⌉", ")"), ("⌋", ")"), ("²", "**2")):
        formula = formula.replace(sign, python)
    size, *others = parts(formula.replace(" mod ", " % "))
    named = [re.fullmatch(r"(\w+) = (.+)", part) for part in others]
    definitions = {found[1]: found[2] for found in named if found}
    return size, definitions, [part for part, found in zip(others, named, strict=True) if not found]


def parts(formula):
    """The parts of a formula between commas and semicolons that stand in no parentheses."""
    depth, cut = 0, [""]
    for sign in formula:
        depth += (sign == "(") - (sign == ")")
        if sign in ",;" and depth == 0:
            cut.append("")
        else:
            cut[-1] += sign
    return [part.strip() for part in cut]


def names_in(*texts):
    """The names of sizes in Python arithmetic, those of functions left out."""
    found = {node.id for text in texts for node in ast.walk(parsed(text)) if isinstance(node, ast.Name)}
    return found - set(FUNCTIONS)


def parsed(text):
    return ast.parse(text, mode="eval").body


FUNCTIONS = {name: f"Math.{name}" for name in ("ceil", "floor", "max", "min")}
OPERATORS = {
    ast.Or: ("||", 1), ast.And: ("&&", 2), ast.Eq: ("===", 3), ast.NotEq: ("!==", 3), ast.Gt: (">", 4),
    ast.GtE: (">=", 4), ast.Lt: ("<", 4), ast.LtE: ("<=", 4), ast.Add: ("+", 5), ast.Sub: ("-", 5),
    ast.Mult: ("*", 6), ast.Div: ("/", 6),
}  # fmt: skip
"""JavaScript's operators and how tightly they bind, in its order."""
TIGHTEST = 7


def javascript(text):
    """Python arithmetic on sizes as JavaScript."""
    return written(parsed(text))[0]


def written(node):
    """(JavaScript, how tightly its outermost operator binds) of a node, or a ValueError."""
    match node:
        case ast.Constant(value=int(number)):
            return str(number), TIGHTEST
        case ast.Name(id=name):
            return name, TIGHTEST
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return f"{FUNCTIONS[name]}({', '.join(written(argument)[0] for argument in arguments)})", TIGHTEST
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"-{bound(operand, TIGHTEST)}", TIGHTEST
        case ast.BinOp(left=ast.Constant(value=int(base)), op=ast.Pow(), right=ast.Constant(value=int(power))):
            return str(base**power), TIGHTEST
        case ast.BinOp(left=left, op=ast.Mod(), right=ast.Constant(value=int(number))):
            # Python's remainder is never negative, JavaScript's is as negative as what it divides.
            return f"({bound(left, 6)} % {number} + {number}) % {number}", 6
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in OPERATORS:
            sign, strength = OPERATORS[type(operator)]
            return f"{bound(left, strength)} {sign} {bound(right, strength + 1)}", strength
        case ast.BoolOp(op=operator, values=values):
            sign, strength = OPERATORS[type(operator)]
            return f" {sign} ".join(bound(value, strength) for value in values), strength
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in OPERATORS:
            sign, strength = OPERATORS[type(operator)]
            return f"{bound(left, strength + 1)} {sign} {bound(right, strength + 1)}", strength
        case ast.Compare(left=left, ops=[operator, *operators], comparators=[right, *others]) if operators:
            # a == b == c is a == b and b == c; all sizes are plain numbers, so b may be read twice.
            pair, rest = ast.Compare(left, [operator], [right]), ast.Compare(right, operators, others)
            return written(ast.BoolOp(ast.And(), [pair, rest]))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return f"{bound(test, 1)} ? {bound(body, 1)} : {bound(orelse, 1)}", 0
    raise ValueError(f"docs/formulas.py can't write {ast.unparse(node)!r} as JavaScript")


def bound(node, strength):
    """A node as an operand of an operator of that strength: in parentheses if its own binds less."""
    text, own = written(node)
    return text if own >= strength else f"({text})"


def function(text, definitions=()):
    """A JavaScript function of the sizes: the names that a formula uses are its argument's."""
    definitions = dict(definitions)
    names = sorted(names_in(text, *definitions.values()) - set(definitions))
    if unknown := set(names) - SIZES:
        raise ValueError(f"model.js has no {', '.join(unknown)}, which {text!r} needs")
    lines = "".join(f"const {name} = {javascript(value)}; " for name, value in definitions.items())
    value = f"{{ {lines}return {javascript(text)}; }}" if lines else javascript(text)
    return f"({{ {', '.join(names)} }}) => {value}" if names else f"() => {value}"


# The algorithms -----------------------------------------------------------------------------------------


def algorithm(row):
    """(its JavaScript, None) of a row of the registry, or (None, what makes its size more than a formula)."""
    size, definitions, remarks = python_of(row.formula)
    unknown = names_in(size, *definitions.values()) - SIZES - set(definitions)
    if row.reading is reads_planes:
        return None, "layout"
    if unknown:
        return None, "schedule"
    for remark in remarks:
        size = with_remark(size, remark, definitions)
    if row.name in LOWERS_NOTHING:
        size = f"0 if {LOWERS_NOTHING[row.name]} else {size}"
    fields = {
        "family": json.dumps(family(row)), "formula": json.dumps(row.formula, ensure_ascii=False),
        "size": function(size, definitions),
    }  # fmt: skip
    if row.name in NEEDS:
        condition, words = NEEDS[row.name]
        fields |= {"needs": json.dumps(words, ensure_ascii=False), "does": function(condition)}
    return ",\n".join(f"      {name}: {value}" for name, value in fields.items()), None


def family(row):
    """The colour of an algorithm's bar."""
    if row in MEC:
        return "paper" if "Algorithm" in row.source and not row.ours else "mec"
    return "im2col" if row in IM2COL else "direct" if row.name.startswith("direct") else "other"


def data():
    """The script that holds the algorithms, those that are left out and why, and the paper's layers."""
    rows = {row.name: algorithm(row) for row in ALGORITHMS.values()}
    known = "\n".join(f"    {name}: {{\n{text},\n    }}," for name, (text, _) in rows.items() if text)
    left_out = {name: why for name, (text, why) in rows.items() if not text}
    shapes = {name: layers.get(name) for name in layers.PAPER}
    sizes = ("i_h", "i_w", "i_c", "k_h", "k_w", "k_c", "s_h", "s_w", "p_h", "p_w")
    paper = {name: {size: getattr(layer, size) for size in sizes} for name, layer in shapes.items()}
    return (
        "// Written by docs/formulas.py from pymec.registry and pymec.layers.\n"
        f"const explorerData = {{\n  algorithms: {{\n{known}\n  }},\n"
        f"  leftOut: {json.dumps(left_out)},\n  layers: {json.dumps(paper)},\n}};\n"
    )


# The page as one file -----------------------------------------------------------------------------------


def read(name):
    return (DOCS / name).read_text(encoding="utf-8")


def offline():
    """The explorer without the site: markup, style and scripts in one HTML file."""
    scripts = (data(), read("_static/explorer/model.js"), read("_static/explorer/explorer.js"))
    script = "\n".join(f"<script>\n{text}</script>" for text in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Explore lowerings</title>\n'
        f"<style>\n{read('_static/explorer/explorer.css')}</style>\n</head>\n"
        f'<body class="explorer-offline">\n<h1>Explore lowerings</h1>\n{read("_templates/explorer.html")}'
        f"{script}\n</body>\n</html>\n"
    )
