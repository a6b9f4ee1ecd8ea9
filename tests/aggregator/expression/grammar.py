"""Random expressions as text, by the type of their value. Everything is in brackets: nobody's ranks are relied upon."""

from hypothesis import strategies as st

from aggregator.expression.functions import duration_text, timestamp_text
from aggregator.expression.printer import quoted
from tests.aggregator.expression.world import KEYS, doubles, durations, ints, texts, timestamps

Texts = st.SearchStrategy[str]
COMPARISONS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
PATTERNS = ["a+", "^a|b$", "(ab)*c", "[^a]", r"\bB", "a.{0,2}b", "", "(?i)B"]


def _form(form: str, *parts: Texts) -> Texts:
    return st.tuples(*parts).map(lambda texts_: form.format(*texts_))


def truths(depth: int, *, dyn: bool = True, variables: bool = False) -> Texts:
    """Give expressions that are true or false."""
    leaf = st.sampled_from(["true", "false", "x.b", "x.c", "has(x.i)", "has(x.part.serial)", "has(x.m.k)"])
    if not depth:
        return leaf
    less, of = depth - 1, {"dyn": dyn, "variables": variables}
    truth, number = truths(less, **of), wholes(less, **of)
    double, text = reals(less, **of), strings(less, **of)
    choices = [
        leaf,
        _form("({} && {})", truth, truth),
        _form("({} || {} || {})", truth, truth, truth),
        _form("(!{})", truth),
        _form("({} ? {} : {})", truth, truth, truth),
        *(_form("({} {} {})", one, COMPARISONS, one) for one in (number, double, text, truth)),
        _form("({} {} {})", number, COMPARISONS, double),
        _form("({} {} {})", spans(less), COMPARISONS, spans(less)),
        _form("({} {} {})", moments(less), COMPARISONS, moments(less)),
        _form("({} in x.ls)", text),
        _form("({} in x.m)", text),
        _form("({} in [{}, {}])", number, number, number),
        _form("({} in [1, 2, 3])", number),
        _form("{}.{}({})", text, st.sampled_from(["startsWith", "endsWith", "contains"]), text),
        _form("{}.matches({})", text, st.sampled_from([quoted(one) for one in PATTERNS])),
    ]
    macro = st.sampled_from(["exists", "all", "exists_one"])
    choices.append(_form("x.taints.{}(w, w.weight > {})", macro, number))
    if not variables:
        choices.append(_form("x.li.{}(v, {})", macro, truths(less, dyn=dyn, variables=True)))
    if dyn:
        key = st.sampled_from(KEYS)
        choices += [
            _form("(x.any.{} == {})", key, st.one_of(number, double, text, truth)),
            _form("({} != x.any.{})", st.one_of(number, double, text), key),
            _form("(x.any.{} < {})", key, st.one_of(number, double)),
            _form("(x.any.{} && {})", key, truth),
            _form("({} in x.any.{})", text, key),
            _form("x.any.{}.exists(w, w == 'a')", key),
        ]
    return st.one_of(choices)


def wholes(depth: int, *, dyn: bool = True, variables: bool = False) -> Texts:
    """Give expressions that are whole numbers."""
    leaf = ints.map(str) | st.sampled_from(["x.i", "x.j", *(["v"] * 3 if variables else [])])
    if not depth:
        return leaf
    one, text = wholes(depth - 1, dyn=dyn, variables=variables), strings(depth - 1, dyn=dyn)
    choices = [leaf, _form("({} {} {})", one, st.sampled_from([*"+-*/%"]), one), _form("(-({}))", one)]
    choices += [_form("size({})", text), st.just("x.ls.size()"), _form("int({})", reals(depth - 1, dyn=dyn))]
    if dyn:
        choices += [_form("int(x.any.{})", st.sampled_from(KEYS)), _form("(x.any.k + {})", one)]
    return st.one_of(choices)


def reals(depth: int, *, dyn: bool = True, variables: bool = False) -> Texts:
    """Give expressions that are doubles."""
    leaf = doubles.map(repr) | st.sampled_from(["x.d", "x.e"])
    if not depth:
        return leaf
    one = reals(depth - 1, dyn=dyn, variables=variables)
    choices = [leaf, _form("({} {} {})", one, st.sampled_from([*"+-*/"]), one), _form("(-({}))", one)]
    choices.append(_form("double({})", wholes(depth - 1, dyn=dyn, variables=variables)))
    if dyn:
        choices.append(_form("double(x.any.{})", st.sampled_from(KEYS)))
    return st.one_of(choices)


def strings(depth: int, *, dyn: bool = True, variables: bool = False) -> Texts:
    """Give expressions that are texts."""
    leaf = texts.map(quoted) | st.sampled_from(["x.s", "x.z", "x.part.vendor", 'x.m["k"]'])
    if not depth:
        return leaf
    one = strings(depth - 1, dyn=dyn, variables=variables)
    return leaf | _form("({} + {})", one, one)


def spans(depth: int) -> Texts:
    """Give expressions that are durations."""
    leaf = durations.map(lambda one: f'duration("{duration_text(one)}")') | st.just("x.u")
    if not depth:
        return leaf
    return leaf | _form("({} {} {})", spans(depth - 1), st.sampled_from("+-"), spans(depth - 1))


def moments(depth: int) -> Texts:
    """Give expressions that are timestamps."""
    leaf = timestamps.map(lambda one: f'timestamp("{timestamp_text(one)}")') | st.just("x.t")
    return leaf | _form("({} - {})", leaf, spans(depth - 1)) if depth else leaf
