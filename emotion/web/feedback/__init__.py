"""Faces that visitors give for training: kept apart until an operator approves them."""
