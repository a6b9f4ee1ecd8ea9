"""The collector `syslog`: kernel log, UDP, TCP and unix sockets."""
