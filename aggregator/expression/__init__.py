"""The expression language: one subset of CEL for alert conditions, inventory filters, subscriptions and selectors.

Read in this order: `types` and `environment` (what names there are), `lexer`, `syntax` and `parser` (text into words),
`checker` with `calls` and `functions` (words into the typed tree), `tree` and `printer`, then `emit` and `compiled`
(the tree into functions of objects and of columns). `names` holds the names of Muster itself. For users:
docs/expressions.md.

Source: the CEL language definition, https://github.com/google/cel-spec/blob/master/doc/langdef.md.
"""

from aggregator.expression.compiled import Column, Counts, Expression, Mask, compile_expression, compile_value
from aggregator.expression.environment import Environment
from aggregator.expression.errors import ExpressionError
from aggregator.expression.runtime import Fault, Truth

__all__ = [
    "Column",
    "Counts",
    "Environment",
    "Expression",
    "ExpressionError",
    "Fault",
    "Mask",
    "Truth",
    "compile_expression",
    "compile_value",
]
