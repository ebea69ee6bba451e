"""A solution of exercise 5: count the rows of the image that the windows touch."""


def predict(i_n, i_h, i_w, i_c, k_h, k_w, s_h=1, s_w=1, p_h=0, p_w=0):
    """Bytes of im2col's matrix, of the paper's L, and of an L of rows that are read."""
    o_h = (i_h + 2 * p_h - k_h) // s_h + 1
    o_w = (i_w + 2 * p_w - k_w) // s_w + 1
    im2col = i_n * o_h * o_w * k_h * k_w * i_c * 4
    published = i_n * o_w * (i_h + 2 * p_h) * k_w * i_c * 4
    read = {y * s_h + a - p_h for y in range(o_h) for a in range(k_h)} & set(range(i_h))
    return im2col, published, i_n * o_w * len(read) * k_w * i_c * 4
