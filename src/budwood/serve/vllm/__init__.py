"""vLLM as the backend: releases are computed by vLLM servers, and everything else about serving stays ours.

    loader.py    Backend: from a release's digest to one that vLLM serves and that has proved itself
    engine.py    Engine: requests in, tokens out, from any thread
    pool.py      which servers there are, which releases each has proved, who answers, who takes over
    client.py    one server's HTTP
    wire.py      our requests as vLLM's, its events as our tokens
    adapters.py  adapters as folders that vLLM reads, and what it cannot read
    process.py   a server that Budwood starts, watches and ends; launch.py runs inside it

Prompts go out as token ids and answers come back as token ids with log-probabilities: templates, stop strings, usage and the
shapes of answers are made where they always are, and vLLM's own are never used. Adapters are known to vLLM under immutable
names (name@version-digest), and each release's prefix cache is salted with its digest.
"""
