"""Settings for all tests."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads cost more than they bring; workers inherit it
