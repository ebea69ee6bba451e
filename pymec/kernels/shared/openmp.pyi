OPENMP: bool
DEBUG: bool
NATIVE: bool
PROFILE: bool

def max_threads() -> int: ...
def n_cpus() -> int: ...
