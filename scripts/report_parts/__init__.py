"""The parts of scripts/report.py. Standard library only."""
