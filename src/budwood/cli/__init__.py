"""The command line: one module a command. Each parses, calls one function, prints; no logic lives here.

Exit codes: 0 done; 1 the gate said REJECT, `verify` found faults, or not every server
followed a move that was waited for; 2 the gate said INCONCLUSIVE; 3 refused, with a reason; 4 something that was not
foreseen: the system failed (a disk, memory), or a fault of Budwood, which `--debug` shows in full; 130 interrupted.
"""
