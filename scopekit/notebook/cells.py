"""Reads what stands in a spawning cell: its options, its names."""

from __future__ import annotations

import ast
import builtins
import io
import re
import symtable
import tokenize
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

__all__ = ("CellNames", "OptionTextError", "analyse", "split_options")

_OPENING, _CLOSING = "([{", ")]}"
_LAYOUT = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
# What every module has of its own, and the name for what nobody wants.
_OWN_NAME = re.compile(r"__\w+__|_")


# -- options ------------------------------------------------------------------------------


class OptionTextError(ValueError):
    """The text behind ``%%spawn`` is no list of options."""


def split_options(line: str) -> dict[str, str]:
    """Splits ``a=1 b=f(x, y=2)`` where a name and ``=`` stand outside of brackets.

    Returns:
        The text of each value, by name.

    Raises:
        OptionTextError: it cannot be split; says where.
    """
    tokens = list(_tokens(line))
    starts = [
        index
        for index, (depth, token) in enumerate(tokens[:-1])
        if depth == 0 and token.type == tokenize.NAME and tokens[index + 1][1].string == "="
    ]
    before = line[: _column(tokens, starts[0])] if starts else line
    if before.strip():
        raise OptionTextError(f"options are written name=value, and {before.strip()!r} is not")
    found: dict[str, str] = {}
    for start, end in zip(starts, [*starts, len(tokens)][1:], strict=True):
        name = tokens[start][1].string
        value = line[tokens[start + 1][1].end[1] : _column(tokens, end)].strip()
        if not value:
            raise OptionTextError(f"{name}= has no value")
        if name in found:
            raise OptionTextError(f"{name}= is given twice")
        found[name] = value
    return found


def _tokens(line: str) -> Iterator[tuple[int, tokenize.TokenInfo]]:
    """Yields the tokens of a line, each with the number of brackets around it."""
    depth = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            if token.type in _LAYOUT:
                continue
            if token.type == tokenize.ERRORTOKEN and token.string in "\"'":
                raise OptionTextError(f"a quote is not closed: {line[token.start[1] :]}")
            depth -= token.string in _CLOSING
            yield depth, token
            depth += token.string in _OPENING
    except (tokenize.TokenError, SyntaxError) as error:
        raise OptionTextError(f"a bracket or quote is not closed: {line.strip()}") from error


def _column(tokens: Sequence[tuple[int, tokenize.TokenInfo]], index: int) -> int | None:
    return tokens[index][1].start[1] if index < len(tokens) else None


# -- names --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CellNames:
    """What a cell needs, and what it gives.

    Attributes:
        reads: names that it may read before it assigns them, in order.
        assigns: names that may be bound when it ends, in order.
        imports: those of the names that nothing but an import binds, each with the module
            and, if that is not the value itself, the attribute.
        shows: True if it ends with an expression, whose value is to be shown.
    """

    reads: tuple[str, ...]
    assigns: tuple[str, ...]
    imports: Mapping[str, tuple[str, str | None]]
    shows: bool


def analyse(source: str, *, filename: str = "<cell>", notebook: Container[str] = ()) -> CellNames:
    """Finds the names that a cell reads from outside, or leaves behind.

    A name counts as read where some path through the cell reads it before it assigns
    it; as assigned where some path ends with it bound.

    Args:
        source: the cell, as plain Python.
        filename: what a syntax error calls it.
        notebook: the names of the notebook; one of them hides a builtin.

    Raises:
        SyntaxError: it is no Python.
    """
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(source, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
    compile(source, filename, "exec", flags, dont_inherit=True)  # finds what parsing cannot
    walk = _Walk()
    walk.block(tree.body)
    reads = tuple(
        name
        for name in walk.finish()
        if not _OWN_NAME.fullmatch(name) and (name in notebook or not hasattr(builtins, name))
    )
    assigns = tuple(name for name in walk.assigned() if not _OWN_NAME.fullmatch(name))
    shows = bool(tree.body) and isinstance(tree.body[-1], ast.Expr) and not _silenced(source)
    return CellNames(reads, assigns, walk.imported(), shows)


def _silenced(source: str) -> bool:
    """Tells whether the cell ends with a semicolon, which hides a value."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    last = [token for token in tokens if token.type not in _LAYOUT][-1]
    return last.string == ";"


@dataclass(slots=True)
class _State:
    """What is bound at one point of a cell.

    Attributes:
        must: what every path there has bound.
        may: what some path there has bound.
        dead: True if no path leads there.
    """

    must: set[str] = field(default_factory=set)
    may: set[str] = field(default_factory=set)
    dead: bool = False

    def copy(self) -> _State:
        return _State(set(self.must), set(self.may), self.dead)


def _meet(states: Iterable[_State]) -> _State:
    every = list(states)
    live = [state for state in every if not state.dead]
    if not live:
        return _State(set(), set().union(*(state.may for state in every)), dead=True)
    must = set.intersection(*(state.must for state in live))
    return _State(must, set().union(*(state.may for state in live)))


@dataclass(slots=True)
class _Loop:
    breaks: list[_State] = field(default_factory=list)
    continues: list[_State] = field(default_factory=list)


@dataclass(slots=True)
class _Deferred:
    """A function: its body reads names when it is called, nobody knows when."""

    owner: str
    reads: list[str]
    globals_bound: list[str]
    bound: set[str]


class _Walk(ast.NodeVisitor):
    """Walks through a cell in the order in which it runs.

    Names of class bodies are kept among the others under a key that no name can have.
    """

    def __init__(self) -> None:
        self._state = _State()
        self._reads: dict[str, None] = {}
        self._loads: set[str] = set()
        self._log: list[str] = []
        self._imports: list[tuple[str, tuple[str, str | None]]] = []
        self._deferred: list[_Deferred] = []
        self._loops: list[_Loop] = []
        self._hidden: list[set[str]] = []
        self._owner = ""
        self._class = ""
        self._class_globals: set[str] = set()
        self._classes = 0

    def block(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            self.visit(statement)

    def finish(self) -> tuple[str, ...]:
        """Returns what is read, those names included that functions read later."""
        end = self._state
        for function in self._deferred:
            self._loads.update(function.reads)
            for name in function.reads:
                if name not in function.bound and (end.dead or name not in end.must):
                    self._reads.setdefault(name)
        return tuple(self._reads)

    def assigned(self) -> tuple[str, ...]:
        """Returns what may be bound at the end; call after ``finish``."""
        found = [name for name in dict.fromkeys(self._log) if name in self._state.may]
        for function in self._deferred:
            # A global that a function assigns is there only once the function was called.
            if function.owner in self._loads:
                found += function.globals_bound
        return tuple(dict.fromkeys(found))

    def imported(self) -> dict[str, tuple[str, str | None]]:
        """Returns what is bound by one import, or by several of the same thing, alone."""
        found = dict(self._imports)
        return {
            name: source
            for name, source in found.items()
            if self._log.count(name) == self._imports.count((name, source))
        }

    # -- single names -----------------------------------------------------------

    def _bind(self, name: str) -> None:
        if self._class and name not in self._class_globals:
            name = f"{self._class}{name}"
        else:
            self._log.append(name)
        self._state.must.add(name)
        self._state.may.add(name)

    def _read(self, name: str) -> None:
        if any(name in names for names in self._hidden):
            return
        must = self._state.must
        if self._class and f"{self._class}{name}" in must:
            return
        self._loads.add(name)
        if name not in must and not self._state.dead:
            self._reads.setdefault(name)

    def _delete(self, name: str) -> None:
        key = f"{self._class}{name}" if self._class else name
        if key not in self._state.may:
            self._read(name)
        self._state.must.discard(key)
        self._state.may.discard(key)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.id)
        elif isinstance(node.ctx, ast.Del):
            self._delete(node.id)
        elif self._hidden and node.id in self._hidden[-1]:
            return
        else:
            self._bind(node.id)

    # -- statements that bind ---------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        self._visit_all(node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
        self.visit(node.annotation)
        if node.value is not None or not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target.id)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            package = alias.name.partition(".")[0]
            self._import(alias.asname or package, alias.name if alias.asname else package, None)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name != "*":
                module = "." * node.level + (node.module or "")
                self._import(alias.asname or alias.name, module, alias.name)

    def _import(self, name: str, module: str, attribute: str | None) -> None:
        if not self._class:
            self._imports.append((name, (module, attribute)))
        self._bind(name)

    def visit_Global(self, node: ast.Global) -> None:
        if self._class:
            self._class_globals.update(node.names)

    def visit_TypeAlias(self, node: ast.AST) -> None:  # Python 3.12
        with_parameters = _parameter_names(node)
        self._hidden.append(with_parameters)
        self.visit(node.value)  # type: ignore[attr-defined]
        self._hidden.pop()
        self.visit(node.name)  # type: ignore[attr-defined]

    # -- functions, classes -------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all([*node.args.defaults, *filter(None, node.args.kw_defaults)])
        bare = ast.Lambda(_bare(node.args), node.body)
        self._defer("", ast.Expr(bare))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list)
        arguments = node.args
        self._visit_all([*arguments.defaults, *filter(None, arguments.kw_defaults)])
        self._hidden.append(_parameter_names(node))
        self._visit_all(filter(None, [*map(_annotation, _all_of(arguments)), node.returns]))
        self._hidden.pop()
        self._bind(node.name)
        copy = type(node)(**{key: getattr(node, key) for key in node._fields})
        copy.decorator_list, copy.returns, copy.args = [], None, _bare(arguments)
        self._defer(self._owner or node.name, copy)

    def _defer(self, owner: str, node: ast.stmt) -> None:
        reads, bound = _names_of_function(node)
        hidden = set().union(*self._hidden)
        self._deferred.append(
            _Deferred(
                owner,
                [name for name in reads if name not in hidden],
                bound,
                set(self._state.must),
            )
        )

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all(node.decorator_list)
        self._hidden.append(_parameter_names(node))
        self._visit_all([*node.bases, *(keyword.value for keyword in node.keywords)])
        before = self._class, self._class_globals, self._owner
        self._classes += 1
        self._class, self._class_globals = f"{self._classes} ", set()
        self._owner = self._owner or node.name
        self.block(node.body)
        self._class, self._class_globals, self._owner = before
        self._hidden.pop()
        self._bind(node.name)

    # -- expressions in which not all is evaluated ----------------------------------

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        first = self._state.copy()
        self._visit_all(node.values[1:])
        self._state = _meet([first, self._state])

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._branches(node.test, [node.body], [node.orelse])

    def _branches(self, test: ast.expr, body: Iterable[ast.AST], orelse: Iterable[ast.AST]) -> None:
        self.visit(test)
        otherwise = self._state.copy()
        self._state.must |= _bound_if_true(test)
        self._visit_all(body)
        after, self._state = self._state, otherwise
        self._visit_all(orelse)
        self._state = _meet([after, self._state])

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node.generators, node.elt)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._comprehension(node.generators, node.elt)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node.generators, node.elt)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node.generators, node.key, node.value)

    def _comprehension(self, generators: list[ast.comprehension], *results: ast.expr) -> None:
        self.visit(generators[0].iter)
        before = self._state.copy()
        self._hidden.append({name for each in generators for name in _stored(each.target)})
        for number, each in enumerate(generators):
            if number:
                self.visit(each.iter)
            self.visit(each.target)
            for test in each.ifs:
                self.visit(test)
                self._state.must |= _bound_if_true(test)
        self._visit_all(results)
        self._hidden.pop()
        self._state = _meet([before, self._state])

    # -- statements in which not all runs ---------------------------------------------

    def visit_If(self, node: ast.If) -> None:
        self._branches(node.test, node.body, node.orelse)

    def visit_For(self, node: ast.For) -> None:
        self._for(node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        self._for(node)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        never = self._state.copy()
        self._loop([node.target, *node.body], node.orelse, [never])

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        never = self._state.copy()
        self._state.must |= _bound_if_true(node.test)
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        never.dead = never.dead or endless
        self._loop(node.body, node.orelse, [never], endless=endless)

    def _loop(
        self,
        body: Iterable[ast.AST],
        orelse: Iterable[ast.AST],
        never: list[_State],
        *,
        endless: bool = False,
    ) -> None:
        loop = _Loop()
        self._loops.append(loop)
        self._visit_all(body)
        self._loops.pop()
        if endless:
            self._state.dead = True
            loop.continues.clear()
        self._state = _meet([*never, self._state, *loop.continues])
        self._visit_all(orelse)
        self._state = _meet([self._state, *loop.breaks])

    def visit_Break(self, _: ast.Break) -> None:
        self._loops[-1].breaks.append(self._state.copy())
        self._state.dead = True

    def visit_Continue(self, _: ast.Continue) -> None:
        self._loops[-1].continues.append(self._state.copy())
        self._state.dead = True

    def visit_Raise(self, node: ast.Raise) -> None:
        self.generic_visit(node)
        self._state.dead = True

    def visit_Try(self, node: ast.Try) -> None:
        self._try(node)

    def visit_TryStar(self, node: ast.TryStar) -> None:
        self._try(node)

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        before, since = self._state.copy(), len(self._log)
        self.block(node.body)
        broken = self._broken(before, since)
        self.block(node.orelse)
        ends = [self._state]
        for handler in node.handlers:
            self._state = broken.copy()
            self._handler(handler)
            ends.append(self._state)
        # What stands under finally runs after the good ends, but after any other, too.
        if node.finalbody:
            self._state = self._broken(before, since)
            self.block(node.finalbody)
        self._state = _meet(ends)
        self.block(node.finalbody)

    def _broken(self, before: _State, since: int) -> _State:
        """Returns what is bound where a block broke off at an unknown point."""
        return _State(set(before.must), before.may | set(self._log[since:]), before.dead)

    def _handler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        if node.name is None:
            self.block(node.body)
            return
        self._bind(node.name)
        self.block(node.body)
        key = f"{self._class}{node.name}" if self._class else node.name
        self._state.must.discard(key)
        self._state.may.discard(key)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        before, since = self._state.copy(), len(self._log)
        ends: list[_State] = []
        complete = False
        for case in node.cases:
            self._state = self._broken(before, since)
            self.visit(case.pattern)
            if case.guard is not None:
                self.visit(case.guard)
                self._state.must |= _bound_if_true(case.guard)
            self.block(case.body)
            ends.append(self._state)
            complete = complete or (case.guard is None and _takes_all(case.pattern))
        if not complete:
            ends.append(self._broken(before, len(self._log)))
        self._state = _meet(ends)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._pattern(node, node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._pattern(node, node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._pattern(node, node.rest)

    def _pattern(self, node: ast.pattern, name: str | None) -> None:
        self.generic_visit(node)
        if name is not None:
            self._bind(name)

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)


def _takes_all(pattern: ast.pattern) -> bool:
    return isinstance(pattern, ast.MatchAs) and pattern.pattern is None


def _bound_if_true(test: ast.expr) -> set[str]:
    """Returns what is bound by ``:=`` for certain once a test came out true."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return set().union(*map(_bound_if_true, test.values))
    if isinstance(test, (ast.BoolOp, ast.IfExp, ast.Lambda)):
        return set()
    return {node.target.id for node in ast.walk(test) if isinstance(node, ast.NamedExpr)}


def _stored(target: ast.expr) -> set[str]:
    return {
        node.id
        for node in ast.walk(target)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


# -- bodies of functions --------------------------------------------------------------------


def _names_of_function(node: ast.stmt) -> tuple[list[str], list[str]]:
    """Returns the globals that a function reads, then those that it assigns.

    Python's own table of symbols tells them, for all functions inside as well.
    """
    text = ast.unparse(ast.fix_missing_locations(ast.Module([node], [])))
    # The table takes what += does for an assignment alone.
    augmented = {
        each.target.id
        for each in ast.walk(node)
        if isinstance(each, ast.AugAssign) and isinstance(each.target, ast.Name)
    }
    reads: dict[str, None] = {}
    bound: dict[str, None] = {}
    for table in _tables(symtable.symtable(text, "<function>", "exec").get_children()):
        for symbol in table.get_symbols():
            read = symbol.is_referenced() or symbol.get_name() in augmented
            if symbol.is_global() and read:
                reads.setdefault(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned():
                bound.setdefault(symbol.get_name())
    return list(reads), list(bound)


def _tables(tables: Iterable[symtable.SymbolTable]) -> Iterator[symtable.SymbolTable]:
    for table in tables:
        yield table
        yield from _tables(table.get_children())


def _all_of(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from filter(None, (arguments.vararg, arguments.kwarg))


def _annotation(argument: ast.arg) -> ast.expr | None:
    return argument.annotation


def _bare(arguments: ast.arguments) -> ast.arguments:
    """Returns the parameters without what is evaluated where the function is defined."""
    return ast.arguments(
        posonlyargs=[ast.arg(each.arg) for each in arguments.posonlyargs],
        args=[ast.arg(each.arg) for each in arguments.args],
        vararg=arguments.vararg and ast.arg(arguments.vararg.arg),
        kwonlyargs=[ast.arg(each.arg) for each in arguments.kwonlyargs],
        kw_defaults=[None] * len(arguments.kwonlyargs),
        kwarg=arguments.kwarg and ast.arg(arguments.kwarg.arg),
        defaults=[],
    )


def _parameter_names(node: ast.AST) -> set[str]:
    """Returns the names of type parameters, which Python 3.12 brought."""
    return {parameter.name for parameter in getattr(node, "type_params", ())}
