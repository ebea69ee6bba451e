"""Right wherever every row of the image is read."""


def predict(i_n, i_h, i_w, i_c, k_h, k_w, s_h=1, s_w=1, p_h=0, p_w=0):
    o_h = (i_h + 2 * p_h - k_h) // s_h + 1
    o_w = (i_w + 2 * p_w - k_w) // s_w + 1
    row = i_n * o_w * k_w * i_c * 4
    return row * o_h * k_h, row * (i_h + 2 * p_h), row * i_h
