#!/usr/bin/env python3
"""The migration under the name that deployment plans know: `genledger migrate` with the same arguments.

python3 scripts/migrate_to_influxdb_first.py --validate-only --from webui.db
"""

import sys

from genledger.main import run

if __name__ == "__main__":
    sys.exit(run(["migrate", *sys.argv[1:]]))
