"""What is sent and what is answered: one module per workload, each a single `WORKLOAD` value.

Knows nothing of subjects or of measuring. Open `workload.py` first, then `small_get.py`.
"""
