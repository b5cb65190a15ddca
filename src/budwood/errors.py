"""The one error family that users see.

An error has four parts, in this order: what is wrong (with the offending value), where it came from, how to mend it. They
are fields, so that the command line prints them without a traceback, the server maps them to OpenAI's error object, and
tests read them.

    BudwoodError
      RecipeError       the recipe file: unknown key, wrong type, impossible value
      DataError         source files and rows
      BaseError         the base model: not found, no safetensors, unsupported family
      AdapterError      adapter files: keys, shapes, values, config fields
      TrainingError     a run that cannot start, or stopped (loss not finite, row too long)
      EvaluationError   suites, scorers and comparisons that cannot be made
      StoreError        objects, catalog, aliases, history
        UnknownReleaseError   no release, or more than one, answers to a name
      ReleaseError      gates, promotions, probes
      ServeError        the server could not start or answer
      GenerationError   a generation request that cannot be answered (engine.generate)
      ApiError          a request to the server that is refused (serve.api)

Room: knows nothing else of Budwood.
"""


class BudwoodError(Exception):
    """Something that the user can mend.

    Args:
        what: what is wrong, with the offending value and, where there is one, the nearest right value.
        where: file and line, recipe section and key, row, tensor, or object.
        mend: what to do about it; a command where there is one.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what = what
        self.where = where
        self.mend = mend
        super().__init__(self.__str__())

    def __str__(self) -> str:
        head = f"{self.what} In {self.where}." if self.where else self.what
        return f"{head}\n    {self.mend}" if self.mend else head


class RecipeError(BudwoodError):
    pass


class DataError(BudwoodError):
    pass


class BaseError(BudwoodError):
    pass


class AdapterError(BudwoodError):
    pass


class TrainingError(BudwoodError):
    pass


class EvaluationError(BudwoodError):
    pass


class StoreError(BudwoodError):
    pass


class UnknownReleaseError(StoreError):
    """The catalog could be read, and no release answers to that name, or more than one."""


class ReleaseError(BudwoodError):
    pass


class ServeError(BudwoodError):
    pass
