"""The ledger: one ordered sequence of facts and decisions about devices, and the state that it adds up to.

`words` and `transitions` say what there can be, `entries` what can be written, `model` and `state` what it adds up to
(a pure function of the entries), `relations` what binds devices to one another. Whatever decides (claims, adoption,
cleaning) reads the state, and answers with entries or with a typed refusal; whoever leads makes them durable, then
shows them.
"""
