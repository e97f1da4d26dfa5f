"""The server of warm.py ends with the process of the tests, whatever its processes are doing."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import warm

# A process of tests that is interrupted while it waits for another one.
SCRIPT = """
import sys, time, warm
warm.ENVIRONMENT = {"PYTHONPATH": sys.argv[1]}
process = warm.context().Process(target=time.sleep, args=(1000,))
process.start()
print("started", flush=True)
process.join()
"""


def test_ctrl_c_ends_the_server_and_its_processes(tmp_path: Path) -> None:
    (tmp_path / "preloaded.py").touch()  # nothing to load
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, **warm.ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            process.send_signal(signal.SIGINT)
            # the server and its process hold the output open as long as they live
            assert process.communicate(timeout=60) == (b"", None)
            assert process.returncode == -signal.SIGINT
        finally:
            with contextlib.suppress(ProcessLookupError):  # all have ended
                os.killpg(process.pid, signal.SIGKILL)
