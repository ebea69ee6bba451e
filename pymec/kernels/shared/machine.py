"""The machine that tuned numbers are for, each number once."""

from __future__ import annotations

SLICE_BYTES = 512 * 1024
"""What a thread's slice of a bounded algorithm may take without a limit: half of a 1 MiB level-2 cache."""
