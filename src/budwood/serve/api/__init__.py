"""The OpenAI-compatible HTTP side.

`app` has the routes, `schema` what may be asked, `body` reads it within limits, `flight` carries one request through the
engine, `answers` writes the replies, `faults` the errors. Nothing here knows the store.
"""
