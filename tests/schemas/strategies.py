"""Hypothesis strategies for everything that travels: sound blocks, envelopes and accounts, edges included."""

from hypothesis import strategies as st

from schemas.account import Account, Dropped, EpochAccount, StreamAccount
from schemas.batch import Block, Envelope
from schemas.codec import MAX_NUMBER, MAX_TIME
from schemas.metrics import RESERVED
from schemas.verbosity import Level, RowClass

names = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True).filter(lambda name: name not in RESERVED)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
long_texts = st.builds(lambda text, times: text * times, texts, st.sampled_from([1, 1, 1, 500]))
printables = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=60)

floats = st.floats(allow_nan=False)  # both infinities, both zeros, subnormals
ints = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([-(2**63), -1, 0, 2**63 - 1, 2**63, 2**64 - 1])


@st.composite
def blocks(draw: st.DrawFn, max_rows: int = 12) -> Block:
    """Draw one sound block: all four types of column, any of them empty, any value absent."""
    taken = draw(st.lists(names, unique=True, min_size=1, max_size=8))
    attributes = taken[: draw(st.integers(0, min(3, len(taken))))]
    columns = taken[len(attributes) :]
    keys = draw(st.lists(st.tuples(*[texts] * (1 + len(attributes))).map(list), min_size=1, max_size=30))
    count = draw(st.integers(1, max_rows))
    block = Block(
        measurement=draw(names),
        subject=draw(printables),
        attributes=attributes,
        keys=keys,
        rows=draw(st.lists(st.integers(0, len(keys) - 1), min_size=count, max_size=count)),
        start=draw(st.integers(0, MAX_TIME // 2)),
        steps=[0, *draw(st.lists(st.integers(1, 10**12), min_size=count - 1, max_size=count - 1))],
    )
    for column in columns:
        group, values = draw(
            st.sampled_from(
                [
                    (block.floats, floats),
                    (block.ints, ints),
                    (block.bools, st.booleans()),
                    (block.strings, long_texts),
                ]
            )
        )
        group[column] = draw(st.lists(st.none() | values, min_size=count, max_size=count))
    return block


numbers = st.integers(0, MAX_NUMBER - 1)
intervals = st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair) + 1))
accounts = st.builds(
    Account,
    word=numbers,
    epochs=st.lists(
        st.builds(
            EpochAccount,
            epoch=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
            boot=st.uuids().map(str),
            streams=st.lists(
                st.builds(
                    StreamAccount,
                    row_class=st.sampled_from(RowClass),
                    level=st.sampled_from(Level),
                    produced=numbers,
                    filtered=numbers,
                    folded=numbers,
                    numbered=numbers,
                    spooled=st.lists(intervals, max_size=4),
                    dropped=st.lists(
                        st.builds(Dropped, reason=names, intervals=st.lists(intervals, max_size=3)), max_size=2
                    ),
                ),
                max_size=3,
            ),
        ),
        max_size=3,
    ),
)
envelopes = st.builds(
    Envelope,
    publisher=printables,
    epoch=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    row_class=st.sampled_from(RowClass),
    level=st.sampled_from(Level),
    first=numbers,
    rows=st.integers(0, 1 << 16),
    order=numbers,
    age_ns=numbers,
    grant=st.just("") | st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    account=st.none() | accounts,
    documents=st.just("") | st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
)
