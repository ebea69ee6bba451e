"""Exercise 5: predict your layer, then measure it.

``predict`` should say how many bytes of workspace a float32 layer takes, before anything runs:

* by im2col, the whole batch at once;
* by MEC as published, whose strips have all ``i_h`` rows of the image and the rows of its padding;
* by MEC if its strips keep only the rows of the image that some output reads, and no row of padding.

``p_h`` rows of zeros are above and below the image, ``p_w`` columns to its left and right.  Strips include the columns
of padding in all forms.

The formulas of lesson 5, which are below, know no padding, and the last of them keeps every row.
"""


def predict(i_n, i_h, i_w, i_c, k_h, k_w, s_h=1, s_w=1, p_h=0, p_w=0):
    """Bytes of im2col's matrix, of the paper's L, and of an L of rows that are read."""
    o_h = (i_h - k_h) // s_h + 1
    o_w = (i_w - k_w) // s_w + 1
    im2col = i_n * o_h * o_w * k_h * k_w * i_c * 4
    published = i_n * o_w * i_h * k_w * i_c * 4
    return im2col, published, published
