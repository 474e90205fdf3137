"""What the API answers with, a module for each part of it.

Answers are made by the logic as plain documents; these models only describe them, and are never in the way of one.
Must not know paths: `api/answers.py` says where each is answered. Open `sandboxes.py` first.
"""
