"""PretrainCLI: the command ``pretrain``, a ``fit`` of a pre-training task."""

from ..tasks import PrithviPretrainingTask
from .lightning import PrithviCLI


class PretrainCLI(PrithviCLI):
    """``prithvi-tg pretrain``: trains and resumes like ``fit``; the task must be a `PrithviPretrainingTask`."""

    task_class = PrithviPretrainingTask
    name = "pretrain"


run_command = PretrainCLI.run_command
