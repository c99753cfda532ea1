most: int
refused: bool

def started() -> int: ...
