"""Stand-in servers of tests: they answer on a thread beside the test."""

import socketserver
import threading


def start_serving(server: socketserver.BaseServer) -> threading.Thread:
    """Let the server answer until its `shutdown()`, which then takes 20 ms, by default half a second."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    return thread
