"""Serve: an OpenAI-compatible endpoint on this machine that follows the catalog's aliases.

    from budwood.serve.run import serve
    serve(store, recipe.serve, report=print_event)      # until SIGTERM or SIGINT

Parts: `run` (start and stop) · `follow` (aliases → loaded releases) · `demand` (releases that a request names) · `backend`
(what computes, as two protocols) · `bound` (what a release binds, and whether it is what is here) · `loader` (our own engines)
and `vllm/` (vLLM servers) · `probe` (replay of golden probes) · `directory` (which name means which release now) · `worker` (a
thread that owns an engine) · `texts` (text ↔ token ids) · `metrics` · `access/` (tokens and limits) · `listen` · `api/` (HTTP).

What is tried beside an alias: `routing` (whose request goes where) · `trials` (catalog → routes; counts → catalog) · `traffic`
(counts of the last minutes) · `api/shadow` (copies). Afterwards: `exchange` (a request that has ended) · `aftermath` (the
thread that takes them) · `sampling` (into files, without personal data) · `drift`. See docs/canary.md.

A release is loaded beside what is live, its files re-hashed, its base, tokenizer and template compared, its probes replayed
here; only then does the name point to it, in one assignment. What fails stays out, with its reason in `/ready`, in the
store's observations and in the events, and what was live stays live. A request finishes on the release on which it started.

Errors: `ServeError`, and its child `ApiError`, which knows its HTTP status. No prompt or answer text is ever logged; what is
sampled goes into files of the store.
"""
