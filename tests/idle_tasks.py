"""Tasks of no work, for tests of what orders and starts tasks."""

from dataclasses import dataclass

from sweep.execution.tasks import Task


@dataclass(frozen=True)
class Idle(Task):
    """A task of no work, counted as one of the kind `counted`."""

    counted: str = "statistics"

    @property
    def kind(self) -> str:
        return self.counted

    @property
    def cost(self) -> float:
        return 1.0


def idle(name: str, *needs: str, kind: str = "statistics") -> Task:
    """A task of no work that waits for others."""
    return Idle(name, name, None, frozenset(needs), kind)  # type: ignore[arg-type]
