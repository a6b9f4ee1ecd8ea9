"""What programs of this node push: metrics in line protocol, events and devices in JSON, over a unix socket.

Reading order: `collector` (what the host sees), `server` (the socket and its connections), `peer` (who it is),
`line_protocol` and `objects` (what a line says), `names` and `tables` (what of it may be kept, and as what), `limits`,
`devices` (what pushers describe, over restarts), `counts` (what became of it all).
"""
