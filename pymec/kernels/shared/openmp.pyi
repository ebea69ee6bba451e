OPENMP: bool
DEBUG: bool
NATIVE: bool

def max_threads() -> int: ...
