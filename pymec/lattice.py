"""Counts the different values of s·y + d·a in closed form: no loop over y or a.

Output row y reads image row s_h·y + d_h·a - p_t under kernel row a.  The rows that MEC stores are the different
values of that sum inside the image, so an exact count of them is an exact size of L.
"""

from __future__ import annotations


def floor_sum(n: int, m: int, a: int, b: int) -> int:
    """The sum of ⌊(a·i + b) / m⌋ over i < n, for n, a, b >= 0 and m > 0.

    It counts lattice points under a line: the whole parts of the slope and the intercept are split off, then
    the axes change places, as in Euclid's algorithm (Graham, Knuth & Patashnik, *Concrete Mathematics*, 2nd
    edition, section 3.5).
    """
    total = 0
    while n > 0:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        top = a * n + b
        n, b, a, m = top // m, top % m, m, a
    return total


def pairs_below(limit: int, n: int, s: int, k: int, d: int) -> int:
    """The pairs y < n, a < k with s·y + d·a < limit, for s, d > 0."""
    if n <= 0 or k <= 0 or limit <= 0:
        return 0
    some = min(-(-limit // d), k)  # a < some: at least y = 0
    every = min(max(-(-(limit - s * (n - 1)) // d), 0), some)  # a < every: all n
    # Counted from the largest such a downwards, ⌈(limit - d·a) / s⌉ grows, as floor_sum requires.
    return every * n + floor_sum(some - every, s, d, limit - d * (some - 1) + s - 1)


def values_below(limit: int, n: int, s: int, k: int, d: int) -> int:
    """The different values below ``limit`` of s·y + d·a with y < n and a < k, for s and d without common factor.

    (y, a) and (y + d, a - s) have the same value.  Of the pairs with one value, the pair with the largest y
    is counted: either a < s, or y + d >= n.
    """
    rest = max(n - d, 0)  # the first y of the second kind
    return pairs_below(limit, n, s, min(k, s), d) + pairs_below(limit - s * rest - d * s, n - rest, s, k - s, d)
