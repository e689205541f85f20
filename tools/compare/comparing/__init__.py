"""Servers side by side: what tools/compare/run and tools/load/beside share."""
