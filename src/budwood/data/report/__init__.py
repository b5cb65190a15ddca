"""`budwood data report`: what became of the rows, on one page.

`make`: the page, from a snapshot and what is given beside it · `gather`: the snapshot read once, in bounded memory · `sample`:
rows drawn without chance · `balance`: how often which value · `clusters`: rows that repeat each other, and conflicts ·
`changes`: rows before and after a rule, made again from the source files · `production`: a log of prompts · `mirror`: whether
two samples of prompts can be told apart, and by what · `page/`: the parts as HTML.

Every text is redacted before it is shown, also where the recipe leaves personal data in the rows.
"""
