"""The arguments of a task class and of its base classes, as one signature."""

from collections.abc import Collection
from inspect import Parameter, Signature, signature

from ..class_paths import parameters_of
from ..deprecated import OldArguments
from ..errors import ConfigError


class TaskArguments(OldArguments):
    """Metaclass of tasks: a signature includes the arguments that base classes take as ``**kwargs``."""

    @property
    def __signature__(cls) -> Signature:  # noqa: N805  # of a metaclass
        return Signature(sorted(parameters_of(cls).values(), key=lambda parameter: parameter.kind))


def check_initialisers(task: type, arguments: Collection[str]) -> None:
    """Check that a task class passes the arguments of its base classes on.

    Args:
        task: The class.
        arguments: Names of the arguments of a task; the command line gives those of `TaskArguments` only.

    Raises:
        ConfigError: Arguments of a base class are missing, because a class does not accept them.
    """
    if "encoder" in arguments:
        return
    for owner in task.__mro__:
        initialiser = vars(owner).get("__init__")
        if initialiser is None:
            continue
        kinds = {parameter.kind for parameter in signature(initialiser).parameters.values()}
        if Parameter.VAR_KEYWORD not in kinds:
            raise ConfigError(
                f"{owner.__module__}.{owner.__qualname__}.__init__ must accept **kwargs and pass them to "
                "super().__init__"
            )
