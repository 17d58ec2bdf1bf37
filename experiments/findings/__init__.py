"""What cwjax's own studies found: their commands, raw scores and the page that is made of them.

Each folder holds what is kept of one study: `study.json`, `scores.parquet`, `comparison.json`,
`log.jsonl`, `report.md` and, where the models were looked at in use, `deployment.json`.
`docs/findings.md` is rendered from `page.md.jinja` and these files. A test computes the comparisons
from the scores anew; intervals over new test sets need the logits, which are not kept.
"""
