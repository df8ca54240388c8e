"""TensorZero's HTTP gateway out of its wheel. Runs in TensorZero's own environment, so it imports nothing of ours.

python tensorzero_server.py CONFIG ADDRESS_FILE
"""

import signal
import sys
from pathlib import Path

from tensorzero import _start_http_gateway

gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
address = gateway.base_url.removeprefix("http://").partition("/")[0].replace("0.0.0.0", "127.0.0.1")
Path(sys.argv[2]).write_text(address)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
