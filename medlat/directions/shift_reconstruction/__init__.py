"""Directions whose effects a second network can tell apart (Voynov & Babenko 2020, arXiv 2002.03754)."""
