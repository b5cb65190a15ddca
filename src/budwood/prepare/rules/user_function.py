"""A rule of the recipe's own that is a Python function.

    def check(row):                                    # rules.py, beside the recipe
        if len(row["messages"][-1]["content"]) < 10:
            return "drop", "a very short answer"
        if row["slices"].get("channel") == "fax":
            return "flag", "from a fax"
        for message in row["messages"]:
            message["content"] = message["content"].replace("colour", "color")
        return row                                     # changed, or as it came

It is given a copy of the row: `messages` as a snapshot holds them, `slices`, `tools`, and where it stands (`source`). It gives
back the row (only messages may differ), None for a row to keep as it is, or `("drop" | "flag", reason)`. The reason goes into
the snapshot, so it should quote nothing; personal data in it is redacted.

The file's digest is in the rule's options, so that another file gives another snapshot; what the file itself imports or reads
is not, so keep it whole. A function that gives different answers to the same row makes snapshots that nobody can repeat.
"""

import copy
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NoReturn

from budwood.errors import DataError, RecipeError
from budwood.identity import Digest, digest_file
from budwood.prepare.row import Drop, Message, Row, Touch
from budwood.recipe.user_rule import UserRuleSection
from budwood.text.pii import redact

LONGEST_REASON = 200


@dataclass(frozen=True)
class UserFunction:
    """A rule made of a function.

    Args:
        name: the recipe's.
        function: "file.py:name".
        sha256: digest of the file.
        path: of the file, to tell its lines in a traceback.
        call: the function.
    """

    version: ClassVar[int] = 1
    name: str
    function: str
    sha256: Digest
    path: Path = field(compare=False)
    call: Callable[[dict[str, Any]], Any] = field(compare=False)

    def options(self) -> dict[str, Any]:
        return {"function": self.function, "sha256": self.sha256}

    def apply(self, row: Row) -> Row | Drop:
        given = {
            "messages": row.chat(),
            "slices": dict(row.slices),
            "tools": list(row.tools),
            "source": row.origin._asdict(),
        }
        given = copy.deepcopy(given)
        try:
            outcome = self.call(given)
        except Exception as error:
            raise self._failed(row, error) from error
        if outcome is None:
            return row
        if isinstance(outcome, tuple) and len(outcome) == 2:
            return self._decided(row, *outcome)
        if isinstance(outcome, dict) and isinstance(outcome.get("messages"), list):
            return self._changed(row, outcome["messages"])
        self._refuse(row, f"gave back {type(outcome).__name__}")

    def _decided(self, row: Row, kind: object, reason: object) -> Row | Drop:
        if kind not in ("drop", "flag") or not isinstance(reason, str) or not reason.strip():
            self._refuse(row, 'gave back a pair that is not ("drop" or "flag", reason)')
        said = redact(" ".join(reason.split())).text[:LONGEST_REASON]
        return Drop(said) if kind == "drop" else row.touch(self.name, "flagged", said)

    def _changed(self, row: Row, messages: list[Any]) -> Row:
        try:
            made = tuple(Message.from_json(message) for message in messages)
        except (AttributeError, KeyError, TypeError):
            self._refuse(row, "gave back messages that have no role and content")
        if not made or not all(isinstance(m.role, str) and isinstance(m.content, str) for m in made):
            self._refuse(row, "gave back messages that have no role and content as text")
        if made == row.messages:
            return row
        return replace(row, messages=made, touched=(*row.touched, Touch(self.name, "changed", "messages rewritten")))

    def _refuse(self, row: Row, what: str) -> NoReturn:
        raise DataError(
            f"{row}: the function {self.function} {what}.",
            where=f"[[prepare.user]] {self.name}",
            mend='Give back the row, None, or ("drop" or "flag", "reason").',
        )

    def _failed(self, row: Row, error: Exception) -> DataError:
        """Name the place and not the message, which may quote the row."""
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(self.path)]
        place = f" at line {lines[-1]}" if lines else ""
        return DataError(
            f"{row}: the function {self.function} raised {type(error).__name__}{place}.",
            where=f"[[prepare.user]] {self.name}",
            mend="Correct the function; --debug shows the whole error, which may quote the row.",
        )


def load_function(section: UserRuleSection, folder: Path) -> UserFunction:
    """Read the file and take the function out of it.

    Raises:
        RecipeError: there is no such file or function, or the file cannot be run.
    """
    path, name = folder / section.file, section.function.rpartition(":")[2]
    where = f"[[prepare.user]] {section.name}"
    try:
        source = path.read_text(encoding="utf-8")
        digest = digest_file(path)
    except (OSError, ValueError):
        raise RecipeError(f"There is no readable file {section.file!r}.", where=where, mend="Check the path.") from None
    # A module of its own, and in no list of modules: two recipes may each have a rules.py.
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except Exception as error:
        line = getattr(error, "lineno", None) or next(
            (f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == str(path)), None
        )
        at = f" at line {line}" if line else ""
        raise RecipeError(
            f"{section.file!r} cannot be run: {type(error).__name__}{at}: {error}.", where=where, mend="Correct the file."
        ) from error
    call = getattr(module, name, None)
    if not callable(call):
        raise RecipeError(f"{section.file!r} has no function {name!r}.", where=where, mend="Check the name behind the colon.")
    return UserFunction(section.name, section.function, digest, path, call)
