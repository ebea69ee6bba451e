"""The rule of thumb in the place of the formula: im2col divided by k/s."""


def predict(i_n, i_h, i_w, i_c, k_h, k_w, s_h=1, s_w=1, p_h=0, p_w=0):
    o_h = (i_h + 2 * p_h - k_h) // s_h + 1
    o_w = (i_w + 2 * p_w - k_w) // s_w + 1
    im2col = i_n * o_h * o_w * k_h * k_w * i_c * 4
    return im2col, im2col * s_h // k_h, im2col * s_h // k_h
