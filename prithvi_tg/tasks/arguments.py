"""The arguments of a task class and of its base classes, as one signature."""

from inspect import Parameter, Signature, signature

from ..deprecated import OldArguments


class TaskArguments(OldArguments):
    """Metaclass of tasks: a signature includes the arguments that base classes take as ``**kwargs``."""

    @property
    def __signature__(cls) -> Signature:  # noqa: N805  # of a metaclass
        arguments: dict[str, Parameter] = {}
        for owner in cls.__mro__:
            if "__init__" not in vars(owner):
                continue
            parameters = list(signature(owner.__init__).parameters.values())[1:]  # type: ignore[misc]  # of a class
            kinds = {parameter.kind for parameter in parameters}
            for parameter in parameters:
                if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                    arguments.setdefault(parameter.name, parameter)
            if Parameter.VAR_KEYWORD not in kinds:
                break
        return Signature(sorted(arguments.values(), key=lambda parameter: parameter.kind))
