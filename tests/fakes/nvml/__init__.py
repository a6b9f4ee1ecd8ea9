"""A fake `libnvidia-ml.so.1`, compiled from C, so that the real binding (nvidia-ml-py) runs unchanged.

    def test_something(fake_nvml: FakeNvml) -> None:         # fixture: 8 idle H100 in a folder of their own
        start_agent(env={**os.environ, **fake_nvml.env})     # any process: all that it needs is LD_LIBRARY_PATH
        fake_nvml.gpus[0].temperature = 61                   # seen by the next call, in every process
        fake_nvml.gpus[0].set("pcie.bad_tlp", 3)             # keys without an attribute; all: profiles.py
        fake_nvml.gpus[0].memory_temperature = None          # absent: NOT_SUPPORTED, by call and by field
        fake_nvml.gpus[0].power = Answer(999)                # whoever asks for it gets this return code
        fake_nvml.gpus[0].set_field(82, 511, kind="uint")    # one field lies, calls do not
        with fake_nvml.change(): ...                         # several changes become visible at once
        fake_nvml.xid(0, 79)                                 # to all event sets that have registered by now
        fake_nvml.event(0, 0x100)                            # any event type (here: MIG configuration)
        fake_nvml.set_mig(2, [MigInstance("3g.40gb", 0), MigInstance("1g.10gb", 4)])

Another shape, older driver: `with FakeNvml.build(tmp_path, gpus=2, missing=DRIVER_520_LACKS) as fake:`. In the test's
own process, much faster than a child: `with fake.binding() as pynvml: pynvml.nvmlInit()`.

Faults: `lose`, `require_reset`, `unplug`, `restore` (a GPU); `init_returns`, `all_return`, `reload_driver`,
`remove_library` (the driver); `returns`, `sleeps`, `crashes`, `never_enough`, `heal` (calls, of one GPU or of all).
Cost: `fake.forget_calls()`, then `fake.calls("nvmlDeviceGetFieldValues")`, over all processes.

How it works: a folder holds the library, `state` (lines `key=value`, replaced as a whole) and `control`, a page that
all processes map: the state's sequence number, a ring of events, counts. The library looks for both beside itself.
"""

from tests.fakes.nvml.drivers import DRIVER_520_LACKS
from tests.fakes.nvml.fake import FakeNvml
from tests.fakes.nvml.gpu import ANY, Answer, Gpu, Process
from tests.fakes.nvml.mig import MigInstance

__all__ = ["ANY", "DRIVER_520_LACKS", "Answer", "FakeNvml", "Gpu", "MigInstance", "Process"]
