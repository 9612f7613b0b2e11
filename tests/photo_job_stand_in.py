"""Speaks as `emotion.web.photos.job` does, and does what a task says."""

import os
import sys
import time

from emotion.web.photos.job import receive, send

stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
receive(stdin)
while True:
    try:
        about, parts = receive(stdin)
    except EOFError:
        sys.exit(0)
    match about["task"]:
        case "sleep":
            time.sleep(about["for_s"])
        case "die":
            os.abort()
        case "garbage":
            stdout.write(b'{"about": 1, "sizes": {"a": 99999999999999}}\n')
            stdout.flush()
        case "fail":
            send(stdout, {"error": about["kind"], "words": "as asked"}, {})
            continue
        case "mistake":
            send(stdout, {"mistake": "Traceback"}, {})
            continue
    send(stdout, {"pid": os.getpid()}, parts)
