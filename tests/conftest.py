"""What all tests share: one thread per process, no network, no accidental files."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on busy cores spin: up to 20x slower
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "Agg")
