from collections.abc import Callable

LONG_CALL: int
PAUSE: float

def run(multiply_adds: int, function: Callable[..., object], *arguments: object, **options: object) -> None: ...
def forget() -> None: ...
