"""The stage evaluate: a subject (base, result, release) answers the test split, and every answer is scored and kept.

`suite`: cases, expectations, scorers and decoding under one digest · `answering`: prompts to answers on the engine · `score`:
one answer → one case record · `summary`: records → metrics · `report`: the stored object, read back · `compare`: two reports,
case by case · `page`: one HTML file · `run`: the stage. Errors: `EvaluationError`.
"""
