"""The arguments of a task: its own and those of the classes that it derives from."""

from inspect import Parameter, Signature, signature

from ..deprecated import OldArguments


class TaskArguments(OldArguments):
    """Metaclass of tasks: the signature of a class also lists the arguments that ``**kwargs`` passes to its parents."""

    @property
    def __signature__(cls) -> Signature:  # noqa: N805  # of a metaclass
        found: dict[str, Parameter] = {}
        for owner in cls.__mro__:
            if "__init__" not in vars(owner):
                continue
            own = list(signature(owner.__init__).parameters.values())[1:]  # type: ignore[misc]  # of a class
            kinds = {parameter.kind for parameter in own}
            for parameter in own:
                if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
                    found.setdefault(parameter.name, parameter)
            if Parameter.VAR_KEYWORD not in kinds:
                break
        return Signature(sorted(found.values(), key=lambda parameter: parameter.kind))
