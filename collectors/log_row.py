"""One record of a log on its way from a reader to a block."""

Row = tuple[
    int,  # number within the unit, over all sources and levels
    str | None,  # message
    int,  # severity
    int | None,  # facility
    str | None,  # host
    str | None,  # app
    str | None,  # process_id
    str | None,  # message_id
    str | None,  # structured_data
    int | None,  # source_time_ns
    int | None,  # sequence
    str,  # device
]
"""One record, in the order of the block's columns."""
