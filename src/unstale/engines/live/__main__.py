"""The nursery: started by whoever trains, not by hand."""

from __future__ import annotations

import sys

from unstale.engines.live.nursery import main

sys.exit(main(*map(int, sys.argv[1:])))
