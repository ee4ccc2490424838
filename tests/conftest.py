"""Settings for all tests."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads cost more than they bring; workers inherit it

# a shell starts a command in the background with SIGINT ignored, which the processes of the tests would inherit
signal.signal(signal.SIGINT, signal.default_int_handler)
