class InstructionSet:
    name: str
    needs: str
    supported: bool
    lanes: int

SECOND_LEVEL_BYTES: int
INSTRUCTION_SETS: tuple[InstructionSet, ...]

def supported() -> tuple[InstructionSet, ...]: ...
def choose(name: str | None = None) -> InstructionSet: ...
def measure_peak(seconds: float = 0.05, instruction_set: InstructionSet | None = None) -> float: ...
