"""Review: people decide on records, before a stage trains on them (`review = "required"`) or afterwards.

    desks      which reviews a run has; who has which item
    items      the records, by id
    drafts     what was typed and is not decided yet
    tally      sums over the items and the log, kept up to date
    progress   counts, speed, agreement
    checks     what the parser and the filters say of a text
    marks      differences between two texts
    formats    downloads: JSONL, Label Studio, Argilla; and JSONL back in
    shown      pages
    actions    decisions, drafts, settings
    bounds     how large a request may be

A run's folder is only read, but for the review's own files: `review_log.jsonl` and `.review_drafts.jsonl`
beside a stage's `review.jsonl`, or `reviews/` in the run's folder for finished data.
"""

from fastapi import APIRouter

from r1kit.ui.review.actions import router as actions
from r1kit.ui.review.shown import router as shown

router = APIRouter()
router.include_router(shown)
router.include_router(actions)
