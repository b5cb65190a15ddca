"""Chat templates rendered within bounds: no way out, no endless work, no endless memory.

A template is a program that came with a base. Jinja's sandbox keeps it from Python's inside, but lets it count for years in
nested loops, or ask for a text of ten billion spaces. So each rendering here has a budget. Loops pay for every round, calls and
filters for being made, and all for the size of what comes out; what would be large is refused before it is made. A template
that runs out is refused as one that raises an error is. A conversation is rendered once for each of its beginnings, so all
renderings of one have a budget together (`one_budget`).

The environment is otherwise the one that transformers renders in, and renders the same; a test holds it to that. What no
template needs and what is costly by nature (`lipsum`, `urlize` and their kind) is not there.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any

from jinja2 import Template, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

BUDGET = 1_000_000
"""What one rendering may spend: about as many rounds of a loop. A conversation of 512 turns spends some thousands."""
TOGETHER = 8 * BUDGET
"""What all renderings of one conversation may spend: 512 turns of 3,000 characters each spend six million in 511 renderings."""
LARGEST = 1 << 24
"""Characters of a text, or items of a list with all that lies in them."""
LARGEST_BITS = 4096
CHARACTERS_A_UNIT = 64
ITEMS_A_UNIT = 8
LARGEST_SOURCE = 1 << 20
_GONE_FILTERS = ("filesizeformat", "pprint", "random", "urlize", "wordwrap", "xmlattr")
_SHALLOW = (
    *("attr", "batch", "count", "d", "default", "first", "items", "last", "length", "list", "map"),
    *("reject", "rejectattr", "reverse", "select", "selectattr", "slice"),
)
"""Filters that look at a list or its items but never at what lies in these."""
_WIDE = re.compile(r"\d{5}|\*|\{[^{}]*\{")
"""A width of 10,000 and more, or one that is itself an argument, in a format."""


def render_template(source: str, values: Mapping[str, Any]) -> str:
    """Render a chat template.

    Args:
        source: Jinja text.
        values: JSON values: messages, tools, add_generation_prompt, special tokens.

    Raises:
        Exception: whatever a stranger's program raises; `TemplateError` where its budget is spent.
    """
    sandbox, template = _program(source)
    return sandbox.rendered(template, values)


@contextmanager
def one_budget() -> Iterator[None]:
    """Let all renderings of this thread, until the end, spend `TOGETHER` and no more.

    Raises:
        TemplateError: at the end, when it was spent and whoever asked for a rendering went on without.
    """
    if _PURSE.left is not None:
        yield
        return
    _PURSE.left = TOGETHER
    try:
        yield
        if _PURSE.left <= 0:
            raise _Spent(_TOO_MUCH)
    finally:
        _PURSE.left = None


class _Purse(threading.local):
    """What is left for all renderings of a conversation together; None: nobody counts them."""

    left: int | None = None


_PURSE = _Purse()
_TOO_MUCH = "it does more work than any conversation needs"


@lru_cache(maxsize=16)
def _program(source: str) -> "tuple[ChatSandbox, Template]":
    sandbox = ChatSandbox()
    return sandbox, sandbox.compiled(source)


class _Spent(TemplateError):
    pass


class _Meter(threading.local):
    """What is left of the budget of the rendering in this thread."""

    left = 0

    def pay(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise _Spent(_TOO_MUCH)

    def pay_size(self, value: object) -> None:
        if isinstance(value, (str, bytes)):
            self.pay(len(value) // CHARACTERS_A_UNIT)
        elif isinstance(value, (list, tuple, dict, range)):
            self.pay(len(value) // ITEMS_A_UNIT)


class ChatSandbox(ImmutableSandboxedEnvironment):
    """The environment of one template; each thread has its own meter."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=self._shown)
        self.meter = _Meter()
        self.weight = 0
        for name in _GONE_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = _tojson
        self.filters = {name: self._guarded(name, function) for name, function in self.filters.items()}
        self.filters |= {"_counted": self._counting(), "_small": self._sizing()}
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise_exception, "dict": _make_dict, "namespace": _Names}

    def compiled(self, source: str) -> Template:
        """Compile a template; also that has a budget, since constants are worked out then.

        Raises:
            TemplateError: it is no template, too long, or its constants are too large.
        """
        if len(source) > LARGEST_SOURCE:
            raise _Spent(f"it has {len(source):,} characters; {LARGEST_SOURCE:,} are allowed")
        self.meter.left = BUDGET
        self.weight = len(source) // CHARACTERS_A_UNIT
        return self.from_string(source)

    def rendered(self, template: Template, values: Mapping[str, Any]) -> str:
        """Render within the budget.

        Raises:
            TemplateError: the budget is spent, or the template raises one.
        """
        given = self.meter.left = BUDGET if _PURSE.left is None else min(BUDGET, _PURSE.left)
        pieces: list[str] = []
        length = 0
        try:
            for piece in template.generate(**values):
                length += len(piece)
                if length > LARGEST:
                    raise _Spent(f"it writes more than {LARGEST:,} characters")
                pieces.append(piece)
        finally:
            if _PURSE.left is not None:
                _PURSE.left -= given - max(self.meter.left, 0)
        return "".join(pieces)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.meter.pay(1)
        if isinstance(function, Macro):
            self.meter.pay(self.weight)
        # Jinja's sandbox hands out `format` in a wrapper of its own.
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        if isinstance(owner, (str, bytes, int)):
            self._check_growth(getattr(function, "__name__", ""), owner, [*args, *kwargs.values()])
        found = super().call(context, function, *args, **kwargs)
        self.meter.pay_size(found)
        return found

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.meter.pay(1)
        if operator == "+":
            self._check(_length(left) + _length(right))
        elif operator == "%" and isinstance(left, (str, bytes)):
            self._check_format(left, [right])
        elif operator in ("*", "**"):
            self._check_product(operator, left, right)
        found = super().call_binop(context, operator, left, right)
        self.meter.pay_size(found)
        return found

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Counting().visit(source), *args, **kwargs)

    def _check(self, size: int) -> None:
        if size > LARGEST:
            raise _Spent(f"it makes something of more than {LARGEST:,} characters or items")

    def _check_deep(self, value: object) -> None:
        """Refuse what is large once it is written out: a list may hold itself many times over without being long."""
        if not isinstance(value, (list, tuple, dict)):
            self._check(_length(value))
            return
        waiting, size, seen = [value], 0, 0
        while waiting:
            one = waiting.pop()
            seen += 1
            size += _length(one) + 1
            if size > LARGEST or seen > BUDGET:
                self._check(LARGEST + 1)
            if isinstance(one, dict):
                waiting.extend([*one.keys(), *one.values()])
            elif isinstance(one, (list, tuple)):
                waiting.extend(one)
        self.meter.pay(seen // 16)

    def _check_product(self, operator: str, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() + right.bit_length() if operator == "*" else left.bit_length() * max(right, 0)
            if bits > LARGEST_BITS:
                raise _Spent("it works with larger numbers than any conversation needs")
            return
        counts = [value for value in (left, right) if isinstance(value, int)]
        self._check(max(counts, default=0) * max(_length(left), _length(right)))

    def _check_format(self, text: object, given: Sequence[object]) -> None:
        shown = text.decode("latin-1") if isinstance(text, bytes) else str(text)
        if _WIDE.search(shown):
            raise _Spent("it formats to a width that no conversation needs")
        for value in given:
            self._check_deep(value)
            self._check(len(shown) * _length(value))

    def _check_growth(self, name: str, value: object, given: Sequence[Any]) -> None:
        """Methods and filters that make more than they get: by how much, before they do."""
        for one in given:
            self._check_deep(one)
        widest = max((abs(one) for one in given if isinstance(one, int)), default=0)
        if name in ("format", "format_map"):
            self._check_format(value, given)
        elif name == "replace":
            old, new, *_ = [*map(_length, given), 0, 0]
            self._check(_length(value) + (_length(value) // max(old, 1) + 1) * new)
        elif name == "join":
            self._check(_length(value) * max(map(_length, given), default=0))
        elif name == "indent":
            self._check(_length(value) * max(widest, *map(_length, given), 1))
        elif name == "tojson":
            self._check_deep(value)
            self._check(_length(value) * widest)
        elif name in ("center", "ljust", "rjust", "zfill", "expandtabs", "to_bytes", "batch", "slice"):
            self._check(max(_length(value), 1) * widest)
        elif name == "sum" and any(isinstance(one, (list, tuple)) for one in given):
            raise _Spent("it adds up lists, which takes the square of their number")

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.meter.pay(1)
            value, *given = args[skipped:] or (None,)
            self.meter.pay_size(value)
            if name not in _SHALLOW:
                self._check_deep(value)
            self._check_growth(name, value, [*given, *kwargs.values()])
            found = function(*args, **kwargs)
            self.meter.pay_size(found)
            return found

        return run

    def _counting(self) -> Callable[..., Any]:
        @pass_context
        def counted(context: Context, values: Any, weight: int) -> Iterator[Any]:
            for value in values:
                self.meter.pay(weight)
                yield value

        return counted

    def _sizing(self) -> Callable[..., Any]:
        @pass_context
        def small(context: Context, value: Any) -> Any:
            if not isinstance(value, (str, int, float, Undefined)) and value is not None:
                self._check_deep(value)
            else:
                self.meter.pay_size(value)
            return value

        return small

    def _shown(self, value: Any) -> Any:
        """Look at what is written out."""
        if isinstance(value, str):
            self.meter.pay(len(value) // CHARACTERS_A_UNIT)
        else:
            self._check_deep(value)
        return value


class _Counting(NodeTransformer):
    """Lets loops pay for their rounds, and looks at what is compared or joined, before the template is compiled."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        written = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        weight = nodes.Const(1 + written // CHARACTERS_A_UNIT)
        node.iter = _filtered(node.iter, "_counted", weight)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_filtered(one, "_small") for one in node.nodes]
        return _filtered(node, "_small")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.expr, nodes.Const):
            node.expr = _filtered(node.expr, "_small")
        for operand in node.ops:
            if not isinstance(operand.expr, nodes.Const):
                operand.expr = _filtered(operand.expr, "_small")
        return node


class _Generation(Extension):
    """`{% generation %}` marks answers for trainers of another kind; its body is written as it is."""

    tags = {"generation"}  # noqa: RUF012  # jinja's own form

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Names(Namespace):
    """A template's own variables; nothing that begins with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        # The names of a namespace may be any, "self" too.
        self, *given = args
        values = dict(*given, **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _filtered(node: nodes.Node, name: str, *given: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, name, list(given), [], None, None, lineno=node.lineno)


def _length(value: object) -> int:
    if isinstance(value, (str, bytes, list, tuple, dict)):
        return len(value)
    return value.bit_length() // 3 if isinstance(value, int) else 1


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace may not hold {name!r}")


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
