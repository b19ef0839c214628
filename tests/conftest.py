"""What all tests share: one thread per process, no network, no accidental files."""

import os
import signal
import threading

if threading.current_thread() is threading.main_thread():
    # background jobs of a shell ignore it, and with them the processes that tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on busy cores spin: up to 20x slower
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "Agg")
