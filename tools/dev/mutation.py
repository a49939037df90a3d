"""Mutation testing: break the modules that decide about money, one place at a time, and see whether a test notices.

    python -m tools.dev.mutation [path of one module]

pytest collects once; then each mutant gets a forked child, where the code of the module's functions is replaced in
place and the tests run until the first failure. Ends with 1 if fewer than LEAST percent of the mutants are killed.
"""

import ast
import copy
import os
import select
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

LEAST = 90.0
SECONDS_PER_MUTANT = 120
TARGETS = {
    "payments/acceptance.py": ["payments/tests/test_acceptance.py"],
    "payments/ipn.py": ["payments/tests/test_ipn.py"],
    "payments/refunds.py": ["payments/tests/test_refunds.py", "payments/tests/test_sending_refunds.py"],
    "payments/review.py": ["payments/tests/test_review.py"],
    "payments/comparison.py": ["payments/tests/test_comparison.py"],
}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
SUMS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip

Changes = Iterator[tuple[str, Callable[[Any], None]]]


@dataclass(frozen=True)
class Mutant:
    line: int
    what: str
    tree: ast.Module


def main() -> None:
    results = [_mutate(path, tests) for path, tests in TARGETS.items() if not sys.argv[1:] or path in sys.argv[1:]]
    sys.exit(0 if results and all(share >= LEAST for share in results) else 1)


def mutants_of(source: str) -> Iterator[Mutant]:
    """Yield each way to break the source at one place; what only words an error or types a name is left alone."""
    tree = ast.parse(source)
    skipped = {id(part) for node in ast.walk(tree) for part in _skipped(node)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) not in skipped:
            for what, change in _changes(node):
                mutated = copy.deepcopy(tree)
                change(next(twin for index, twin in enumerate(ast.walk(mutated)) if index == number))
                yield Mutant(getattr(node, "lineno", 0), what, ast.fix_missing_locations(mutated))


def _skipped(node: ast.AST) -> Iterator[ast.AST]:
    words: list[ast.AST | None] = []
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        words += node.exc.args  # the wording of an error
    if isinstance(node, ast.FunctionDef):
        words += [node.returns, *(argument.annotation for argument in node.args.args + node.args.kwonlyargs)]
    if isinstance(node, ast.AnnAssign):
        words.append(node.annotation)
    if isinstance(node, ast.ClassDef):
        words.append(node)  # only functions and constants of the module can be replaced in place
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        words.append(node)  # a docstring
    for word in words:
        yield from ast.walk(word) if word is not None else ()


def _changes(node: ast.AST) -> Changes:
    for kinds, changes in OPERATORS:
        if isinstance(node, kinds):
            yield from changes(node)
    yield from _omissions(node)


def _comparisons(node: ast.Compare) -> Changes:
    for place, operator in enumerate(node.ops):
        for table in (COMPARISONS, TURNED):
            if other := table.get(type(operator)):
                yield f"{_name(operator)} -> {other.__name__}", _set_in("ops", place, other())


def _joins(node: ast.BoolOp) -> Changes:
    other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
    yield f"{_name(node.op)} -> {_name(other)}", _set("op", other)
    for place in range(len(node.values)):
        yield f"{_name(node.op)} without part {place + 1}", _leave_out(place)


def _negations(node: ast.UnaryOp) -> Changes:
    if isinstance(node.op, ast.Not):
        yield "without not", _double


def _sums(node: ast.BinOp) -> Changes:
    if other := SUMS.get(type(node.op)):
        yield f"{_name(node.op)} -> {other.__name__}", _set("op", other())


def _branches(node: ast.If | ast.IfExp) -> Changes:
    for truth in (True, False):
        yield f"if {truth}", _set("test", ast.Constant(truth))


def _returns(node: ast.Return) -> Changes:
    if node.value is not None and ast.unparse(node.value) != "None":
        yield "return None", _set("value", ast.Constant(None))


def _constants(node: ast.Constant) -> Changes:
    value = node.value
    if isinstance(value, bool):
        yield f"{value} -> {not value}", _set("value", not value)
    elif isinstance(value, int):
        yield f"{value} -> {value + 1}", _set("value", value + 1)
        yield f"{value} -> {value - 1}", _set("value", value - 1)
    elif isinstance(value, str):
        yield f"{value[:30]!r} -> another text", _set("value", f"XX{value}")
    elif isinstance(value, bytes):
        yield f"{value!r} -> other bytes", _set("value", b"XX" + value)


def _omissions(node: ast.AST) -> Changes:
    """Leave out a statement that does something and whose absence leaves a function that can still be called."""
    for name in ("body", "orelse"):
        statements = getattr(node, name, None)
        if not isinstance(statements, list) or isinstance(node, ast.Module | ast.ClassDef):
            continue
        for place, statement in enumerate(statements):
            is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if isinstance(statement, ast.Expr | ast.Raise) and not is_docstring:
                yield (
                    f"without {statement.lineno}: “{ast.unparse(statement)[:40]}”",
                    _set_in(name, place, ast.Pass()),
                )


def _name(node: ast.AST) -> str:
    return type(node).__name__


def _set(name: str, value: Any) -> Callable[[Any], None]:
    return lambda node: setattr(node, name, value)


def _set_in(name: str, place: int, value: ast.AST) -> Callable[[Any], None]:
    return lambda node: getattr(node, name).__setitem__(place, value)


def _leave_out(place: int) -> Callable[[Any], None]:
    """Leave out a part of `and` or `or`; of two the other stands there twice, as nothing joins a single part."""

    def change(node: ast.BoolOp) -> None:
        if len(node.values) > 2:
            node.values.pop(place)
        else:
            node.values[place] = node.values[1 - place]

    return change


def _double(node: ast.UnaryOp) -> None:
    """Turn `not x` into `not not x`, which is true where x is."""
    node.operand = ast.UnaryOp(ast.Not(), node.operand)


OPERATORS: tuple[tuple[Any, Callable[[Any], Changes]], ...] = (
    (ast.Compare, _comparisons),
    (ast.BoolOp, _joins),
    (ast.UnaryOp, _negations),
    (ast.BinOp, _sums),
    (ast.Constant, _constants),
    ((ast.If, ast.IfExp), _branches),
    (ast.Return, _returns),
)


class Runner:
    """A pytest plugin: in place of running the tests once, run them in a fork for each mutant."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_child = False
        self.survivors: list[Mutant] = []
        self.endless: list[Mutant] = []
        self.killed = 0

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        """Add what pytest-django asks for and the plugin for terminals, left out here, would have brought."""
        parser.addoption("--verbose", type=int, default=0)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what needs the sandbox: each child would start its own, and one that is late looks like a kill."""
        items[:] = [item for item in items if "sandbox" not in getattr(item, "fixturenames", ())]

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        assert session.testscollected, "no tests were collected"
        # The first test runs here, so that database and other expensive fixtures are there for every child.
        self._run(session, session.items[0], session.items[-1])
        if session.testsfailed:
            raise pytest.UsageError("the tests fail without any mutation")
        source = Path(self.path).read_text()
        # Were the replacing itself at fault, every mutant would count as killed.
        if self._child(session, Mutant(0, "nothing", ast.parse(source))):
            raise pytest.UsageError("the tests fail in a child without any mutation")
        for mutant in mutants_of(source):
            if self._child(session, mutant):
                self.killed += 1
            else:
                self.survivors.append(mutant)
            print(".", end="", file=sys.__stderr__, flush=True)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.failed:
            return
        if self.is_child:
            os._exit(1)
        print(report.longreprtext, file=sys.__stderr__)

    def _child(self, session: pytest.Session, mutant: Mutant) -> bool:
        """Run the tests against the mutant in a child; return whether one failed, or never ended."""
        # Compiled here: in the child a mutant that Python refuses would look like one that a test noticed.
        code = compile(mutant.tree, self.path, "exec")
        _close_connections()
        child = os.fork()
        if child == 0:
            self.is_child = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                _break(self.path, code)
                for item, following in zip(session.items, [*session.items[1:], session.items[0]], strict=True):
                    self._run(session, item, following)
            except BaseException:  # noqa: BLE001 - a mutant that breaks the run itself is noticed as well
                os._exit(1)
            os._exit(0)
        status = _status_of(child)
        if status is None:
            self.endless.append(mutant)
        return status != 0

    def _run(self, session: pytest.Session, item: pytest.Item, following: pytest.Item) -> None:
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def _close_connections() -> None:
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        connection.connection and connection.connection.close()
        connection.connection = None


def _status_of(child: int) -> int | None:
    """Return how the child ended, or None if it had to be ended."""
    watch = os.pidfd_open(child)
    ended, _, _ = select.select([watch], [], [], SECONDS_PER_MUTANT)
    os.close(watch)
    if not ended:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return status if ended else None


def _break(path: str, code: types.CodeType) -> None:
    """Put the mutant's code into the functions that everybody has imported already."""
    module = import_module(path.removesuffix(".py").replace("/", "."))
    broken = types.ModuleType(module.__name__)
    exec(code, broken.__dict__)  # noqa: S102 - our own source, with one change
    for name, value in vars(broken).items():
        old = getattr(module, name, None)
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
            old.__code__, old.__defaults__, old.__kwdefaults__ = (
                value.__code__,
                value.__defaults__,
                value.__kwdefaults__,
            )
        elif name.lstrip("_").isupper():
            setattr(module, name, value)


def _mutate(path: str, tests: list[str]) -> float:
    runner, started = Runner(path), time.monotonic()
    code = pytest.main([*tests, "-p", "no:logging", "-p", "no:terminal", "-p", "no:randomly"], plugins=[runner])
    total = runner.killed + len(runner.survivors)
    if not total:
        print(f"{path}: no mutant was tried (pytest ended with {code})")
        return 0.0
    share = 100 * runner.killed / total
    print(f"\n{path}: {runner.killed} of {total} mutants killed, {share:.1f} %, in {time.monotonic() - started:.0f} s")
    for outcome, mutants in (("survived", runner.survivors), ("never ended, so killed", runner.endless)):
        for mutant in mutants:
            print(f"  {outcome}: line {mutant.line}: {mutant.what}")
    return share


if __name__ == "__main__":
    main()
