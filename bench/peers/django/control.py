"""Stops the worker from taking tasks, enqueues them, and lets it take them."""

import sys

from tasks import app, send

command, *arguments = sys.argv[1:]
if command == "cancel":
    for _ in range(60):
        if app.control.cancel_consumer("celery", reply=True, timeout=1):
            break
    else:
        sys.exit("no worker answers")
elif command == "enqueue":
    with app.producer_pool.acquire() as producer:
        for number in range(int(arguments[0])):
            send.apply_async((number,), producer=producer)
elif command == "resume":
    print("now", flush=True)
    app.control.add_consumer("celery")
