"""A container's health check: exit code 0 when GET /readyz on this port of this container answers 200.

python ready.py 9102

Python's own modules only, and no proxy that the environment may name: the image has no curl.
"""

import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 4.0
OK = 200


def problem(port: int) -> str:
    """What keeps it from being ready; '' when it is."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(4096).decode(errors="replace")
    except (OSError, HTTPException) as error:
        return f"no answer on port {port}: {error}"
    finally:
        connection.close()
    return "" if answer.status == OK else f"{answer.status} {body}"


if __name__ == "__main__":
    sys.exit(problem(int(sys.argv[1])) or None)
