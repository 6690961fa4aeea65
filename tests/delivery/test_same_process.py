"""Whether this is still the process that it was, also where no fork hook runs."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = [
    pytest.mark.every_python,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks"),
]

KERNELS = {
    "as it is": "",
    # `madvise` refuses what it does not know, as before Linux 4.14.
    "old": "class Page(mmap.mmap):\n    def madvise(self, *_): raise OSError(22, 'Invalid')\n",
    # It takes whatever it is told and does nothing, as some versions of QEMU.
    "emulated": "class Page(mmap.mmap):\n    def madvise(self, *_): pass\n",
}
"""What is run before the library is imported, by the kernel that it stands for."""

PROGRAM = """
    if "Page" in globals():
        mmap.mmap = Page
    from snowplow_logging.delivery.same_process import NOWHERE, same_process

    def tell(one):
        print("yes" if one[0] else "no", end=" ", flush=True)

    here = same_process()
    tell(here)
    pid = {fork}()
    if pid == 0:
        tell(here)
        tell(same_process())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    tell(here)
    tell(NOWHERE)
"""


@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_child_is_another_process(kernel, fork):
    """Whatever the kernel can do, and whether or not the fork was Python's."""
    program = "import ctypes, mmap, os\n" + KERNELS[kernel]
    program += textwrap.dedent(PROGRAM).format(fork=fork)
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["yes", "no", "yes", "yes", "no"]
