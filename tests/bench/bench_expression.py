"""What an expression costs: compiled, on objects and on columns, beside Google's CEL on the same rows.

    python -m tests.bench.bench_expression [--rows 100000] [--rounds 5]

Aim: at least a million evaluations of a simple condition a core-second on objects. The peer is cel-expr-python
(Google's C++ CEL) as it is called from Python, with one mapping a row. The best of the rounds counts.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cel_expr_python import cel

from aggregator.expression import Environment, compile_expression
from aggregator.expression.types import DOUBLE, INT, STRING, Field, Held, Record
from tests.bench.measuring import Line, show

FIELDS = {"celsius": DOUBLE, "watts": DOUBLE, "errors": INT, "host": STRING, "message": STRING}
WORLD = Environment({"gpu": Record("gpu", {name: Field(type_) for name, type_ in FIELDS.items()}, Held.ITEMS)})
THEIRS = {DOUBLE: cel.Type.DOUBLE, INT: cel.Type.INT, STRING: cel.Type.STRING}
EXPRESSIONS = {
    "one comparison": "gpu.celsius > 85.0",
    "three terms": "gpu.celsius > 85.0 && gpu.host.startsWith('web') && gpu.errors in [1, 2, 3]",
    "arithmetic": "gpu.errors * 2 + 1 > 5",
    "a plain pattern": "gpu.message.matches('Xid|fell off')",
    "a pattern with repetition": "gpu.message.matches('Xid .*: (48|79)')",
}


def row_of(at: int) -> dict[str, Any]:
    """Give one of the rows: about a fifth match a comparison."""
    message = f"NVRM: Xid (PCI:0000:3b:00): {at % 97}, pid={at}, name=python, Ch 00000008"
    host = f"{'web' if at % 3 else 'db'}{at % 7}"
    return {"celsius": at % 107 * 1.0, "watts": at % 400 * 1.0, "errors": at % 9, "host": host, "message": message}


def best(run: Callable[[], object], rounds: int) -> float:
    """Give the least CPU seconds of the rounds."""
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        run()
        found.append(time.thread_time() - began)
    return min(found)


def _each(predicate: Callable[..., Any], table: list[dict[str, Any]]) -> list[Any]:
    return [predicate(row) for row in table]


def _each_of_theirs(program: Any, activations: list[dict[str, Any]]) -> list[Any]:
    return [program.eval(data=one) for one in activations]


def lines(rows: int, rounds: int) -> list[Line]:
    """Measure: million evaluations a core-second."""
    table = [row_of(at) for at in range(rows)]
    columns = {f"gpu.{name}": [row[name] for row in table] for name in FIELDS}
    peer = cel.NewEnv(variables={f"gpu.{name}": THEIRS[type_] for name, type_ in FIELDS.items()})
    activations = [{f"gpu.{name}": value for name, value in row.items()} for row in table[: max(1, rows // 20)]]
    found = []
    for name, text in EXPRESSIONS.items():
        expression = compile_expression(text, WORLD)
        predicate, mask, program = expression.on_objects("gpu"), expression.on_columns(), peer.compile(text)
        needed = {column: columns[column] for column in expression.names}
        theirs = [program.eval(data=one).plain_value() for one in activations]
        assert theirs == [predicate(row) for row in table[: len(theirs)]] == mask(rows, needed).outcomes[: len(theirs)]
        cel_rate = len(activations) / best(partial(_each_of_theirs, program, activations), rounds) / 1e6
        on_objects = rows / best(partial(_each, predicate, table), rounds) / 1e6
        on_columns = rows / best(partial(mask, rows, needed), rounds) / 1e6
        bar = 1.0 if name == "one comparison" else None
        found += [
            Line(f"expression on objects, {name}", on_objects, "M/s", bar, cel_rate, "CEL (C++)", least=True),
            Line(f"expression on columns, {name}", on_columns, "M/s", None, cel_rate, "CEL (C++)", least=True),
        ]
    compiling = best(lambda: [compile_expression(EXPRESSIONS["three terms"], WORLD).on_columns() for _ in range(50)], 3)
    theirs_compiling = best(lambda: [peer.compile(EXPRESSIONS["three terms"]) for _ in range(50)], 3)
    found.append(
        Line(
            "expression compiled, three terms",
            compiling / 50 * 1e3,
            "ms",
            None,
            theirs_compiling / 50 * 1e3,
            "CEL (C++)",
        )
    )
    return found


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    show(lines(options.rows, options.rounds))


if __name__ == "__main__":
    main()
