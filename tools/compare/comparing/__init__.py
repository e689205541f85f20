"""Servers side by side: what tools/compare/run and tools/load/beside share."""

import sys
from pathlib import Path

# zkserver.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
