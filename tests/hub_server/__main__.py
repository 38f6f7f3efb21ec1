"""`python -m hub_server --root FOLDER [--port N] [--xet]`: serve until ended; the address is printed first."""

import argparse
import signal
import sys
from pathlib import Path

from .routes import Server
from .store import Store

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", type=Path, required=True, help="folder for what is uploaded")
parser.add_argument("--port", type=int, default=0, help="default: any free one")
parser.add_argument("--xet", action="store_true", help="store weights through Xet")
options = parser.parse_args()
server = Server(options.port, Store(options.root), {"xet": options.xet, "part_bytes": 1 << 62})
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(server.url, flush=True)
server.serve_forever(poll_interval=0.1)
