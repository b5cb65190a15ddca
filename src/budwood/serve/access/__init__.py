"""Who may ask this server for what: tokens, their scopes, and how much each may use.

`secret` makes tokens and knows their form, `book` tells who a request is from, `limits` counts what each caller uses. Nothing
here knows HTTP.
"""
