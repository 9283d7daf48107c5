"""Measuring ocirootfs beside what one would use instead, on images made here."""
