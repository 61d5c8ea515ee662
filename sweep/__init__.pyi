"""The public names of `sweep` and where they are; each is imported when it is first used."""

from .api import Sweep, plan, run
from .errors import SpecError, UserError
from .execution.status import Status
from .spec.fields import Spec

__all__ = ["Spec", "SpecError", "Status", "Sweep", "UserError", "plan", "run"]
