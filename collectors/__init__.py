"""The node's side: the collector contract, one module per source, the agent, the spool and the publisher."""
