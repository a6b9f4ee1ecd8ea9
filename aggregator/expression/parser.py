"""Words into a tree, by recursive descent; operators by their rank.

    Expr   = Or [ "?" Or ":" Expr ]
    Or     = And { "||" And }                  And   = Rel { "&&" Rel }
    Rel    = Sum { ( "<" "<=" ">" ">=" "==" "!=" "in" ) Sum }
    Sum    = Product { ( "+" "-" ) Product }   Product = Unary { ( "*" "/" "%" ) Unary }
    Unary  = { "!" } Member | { "-" } Member
    Member = Primary { "." NAME [ "(" [ Expr { "," Expr } ] ")" ] | "[" Expr "]" }
    Primary = LITERAL | NAME [ "(" ... ")" ] | "(" Expr ")" | "[" [ Expr { "," Expr } [ "," ] ] "]"

Source: the CEL language definition (syntax). Time and memory are bounded by the limits in `syntax`.
"""

from typing import Final

from aggregator.expression.errors import ExpressionLimitError, ExpressionSyntaxError
from aggregator.expression.lexer import MAX_INT, RESERVED, Token, tokens
from aggregator.expression.syntax import (
    MAX_DEPTH,
    MAX_LIST,
    MAX_NODES,
    Call,
    Conditional,
    Infix,
    Items,
    Literal,
    Logical,
    Name,
    Prefix,
    Select,
    Subscript,
    Syntax,
)

RELATIONS: Final = ("<", "<=", ">", ">=", "==", "!=", "in")
"""Operators that give a truth from two values."""
SUMS: Final = ("+", "-")
PRODUCTS: Final = ("*", "/", "%")
_RANKS: Final = (RELATIONS, SUMS, PRODUCTS)
_SAID: Final = {"end": "the end", "name": "a name", "literal": "a value"}
_WORDS: Final = {"and": "&&", "or": "||", "not": "!", "AND": "&&", "OR": "||", "NOT": "!"}


def parse(text: str) -> Syntax:
    """Read an expression. Raises ExpressionSyntaxError or ExpressionLimitError, whatever the text is."""
    parser = _Parser(text)
    tree = parser.expression()
    parser.finish()
    return tree


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._next = 0
        self._depth = 0
        self._nodes = 0

    # ------------------------------------------------------------------------------------------ words

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self, *kinds: str) -> Token | None:
        """Step over the next word when it is one of `kinds`."""
        token = self._token
        if token.kind not in kinds:
            return None
        self._next += 1
        return token

    def _expect(self, kind: str, what: str) -> Token:
        return self._take(kind) or self._fail(what)

    def _fail(self, expected: str) -> Token:
        token = self._token
        word = _WORDS.get(token.text)
        if word:
            raise ExpressionSyntaxError(f"write {word} for {token.text!r}", self._text, token.at)
        found = repr(token.text) if token.text else _SAID.get(token.kind, repr(token.kind))
        raise ExpressionSyntaxError(f"expected {expected}, found {found}", self._text, token.at)

    def finish(self) -> None:
        """Raise unless every word has been read."""
        if self._token.kind != "end":
            self._fail("an operator or the end")

    # ------------------------------------------------------------------------------------------ limits

    def _enter(self) -> None:
        self._depth += 1
        self._check_depth(self._depth)

    def _leave(self) -> None:
        self._depth -= 1

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            message = f"expressions are nested deeper than {MAX_DEPTH}: make several rules of it"
            raise ExpressionLimitError(message, self._text, self._token.at)

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            message = f"the expression has more than {MAX_NODES} words: make several rules of it"
            raise ExpressionLimitError(message, self._text, self._token.at)

    # ------------------------------------------------------------------------------------------ grammar

    def expression(self) -> Syntax:
        """Read the loosest form, a conditional."""
        self._enter()
        condition = self._logical("||")
        mark = self._take("?")
        if mark is not None:
            self._count()
            then = self._logical("||")
            self._expect(":", "':' and what holds otherwise")
            condition = Conditional(condition, then, self.expression(), mark.at)
        self._leave()
        return condition

    def _logical(self, operator: str) -> Syntax:
        terms = [self._logical("&&") if operator == "||" else self._infix(0)]
        at = self._token.at
        while self._take(operator):
            self._count()
            terms.append(self._logical("&&") if operator == "||" else self._infix(0))
        return terms[0] if len(terms) == 1 else Logical(operator, tuple(terms), at)

    def _infix(self, rank: int) -> Syntax:
        if rank == len(_RANKS):
            return self._unary()
        left, chained = self._infix(rank + 1), 0
        while operator := self._take(*_RANKS[rank]):
            self._count()
            chained += 1
            self._check_depth(self._depth + chained)
            left = Infix(operator.kind, left, self._infix(rank + 1), operator.at)
        return left

    def _unary(self) -> Syntax:
        operator = self._take("!", "-")
        if operator is None:
            return self._member()
        self._count()
        number = self._token.value
        is_number = self._token.kind == "literal" and not isinstance(number, bool | str)
        if operator.kind == "-" and is_number:
            return self._negative(operator, float(number) if isinstance(number, float) else int(number))
        if self._token.kind in {"!", "-"} and self._token.kind != operator.kind and not self._is_negative_number():
            self._fail(f"brackets after {operator.kind!r}")
        self._enter()
        operand = self._unary()
        self._leave()
        return Prefix(operator.kind, operand, operator.at)

    def _is_negative_number(self) -> bool:
        """Tell whether a minus and a number come next: to CEL, one literal."""
        number = self._tokens[min(self._next + 1, len(self._tokens) - 1)]
        return self._token.kind == "-" and number.kind == "literal" and not isinstance(number.value, bool | str)

    def _negative(self, operator: Token, number: float) -> Syntax:
        """Read a negative number; the least one has no positive."""
        self._next += 1
        return self._members(Literal(-number, operator.at))

    def _member(self) -> Syntax:
        return self._members(self._primary())

    def _members(self, operand: Syntax) -> Syntax:
        chained = 0
        while step := self._take(".", "["):
            self._count()
            chained += 1
            self._check_depth(self._depth + chained)
            if step.kind == "[":
                operand = Subscript(operand, self.expression(), step.at)
                self._expect("]", "']'")
                continue
            name = self._expect("name", "the name of a field or function")
            if self._take("("):
                operand = Call(name.text, operand, self._list(")"), name.at)
            else:
                operand = Select(operand, name.text, name.at)
        return operand

    def _primary(self) -> Syntax:
        self._count()
        token = self._take("literal", "name", "(", "[") or self._fail("a value, a name or '('")
        if token.kind == "literal":
            if not isinstance(token.value, bool) and token.value == MAX_INT + 1 and isinstance(token.value, int):
                raise ExpressionSyntaxError(f"a whole number of at most {MAX_INT} is expected", self._text, token.at)
            return Literal(token.value, token.at)
        if token.kind == "(":
            inner = self.expression()
            self._expect(")", "')'")
            return inner
        if token.kind == "[":
            return Items(self._list("]"), token.at)
        return self._named(token)

    def _named(self, token: Token) -> Syntax:
        if token.text in RESERVED:
            raise ExpressionSyntaxError(f"{token.text!r} is reserved by CEL and names nothing", self._text, token.at)
        if token.text in _WORDS and self._token.kind in {"name", "literal", "("}:
            raise ExpressionSyntaxError(f"write {_WORDS[token.text]} for {token.text!r}", self._text, token.at)
        if self._take("("):
            return Call(token.text, None, self._list(")"), token.at)
        return Name(token.text, token.at)

    def _list(self, end: str) -> tuple[Syntax, ...]:
        """Read expressions up to `end`; a list in brackets may end in a comma."""
        items: list[Syntax] = []
        while not self._take(end):
            if len(items) == MAX_LIST:
                raise ExpressionLimitError(f"a list has more than {MAX_LIST} items", self._text, self._token.at)
            items.append(self.expression())
            if self._take(","):
                if end == ")" and self._token.kind == ")":
                    self._fail("an argument")
                continue
            self._expect(end, f"',' or {end!r}")
            break
        return tuple(items)
