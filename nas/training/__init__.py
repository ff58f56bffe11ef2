"""Supernets and their training: all that knows torch."""

import os

# oneDNN compiles every product anew for each shape, and keeps 1,024. Batches of fifty lengths need up to three times as
# many: docs/training.md has the times. Read when oneDNN is first used; a user's own value stays.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
