"""Texts of device profiles for the tests of what reads them."""

from __future__ import annotations

#: A user's own profile in the format's second version, with every key that a file can have.
MINE = """
schema = 2
id = "mine"
name = "My board"
role = "machine"
fallback = ["xnnpack", "none"]

[match]
system = ["Linux"]
machine = ["aarch64"]
device_tree_model = ["My Board"]
device_tree_compatible = ["me,my-board"]
cpu_flags = ["asimd", "asimddp"]
usb_ids = ["18d1:9302"]
pci_ids = ["1ac1:089a"]
product = ["My Product"]
source = "its boot log"

[[clusters]]
name = "cores"
cores = 2
max_hz = 1_000_000_000
features = "unknown"
source = "its data sheet"

[memory]
sizes_bytes = [536_870_912]
source = "its data sheet"

[[accelerators]]
name = "its NPU"
kind = "npu"
interfaces = "unknown"
source = "its data sheet"

[[delegates]]
kind = "xnnpack"
needs = []
limits = ["Slow."]
options = { weight_cache = "/var/cache/mine" }
source = "tried"

[[delegates]]
kind = "none"
needs = []
source = "tried"

[threads]
default = 2
worth_trying = [1, 2]
source = "measured"

[[runtimes]]
package = "ai-edge-litert"
version = "2.3.0"
pythons = ["3.11"]
machines = ["aarch64"]
limits = ["Large."]
source = "installed"

[thermal]
throttle_from_c = "unknown"
limit_c = 95
source = "its data sheet"
"""

#: The same board in the format's first version, as files were written before there was a second.
MINE_OF_SCHEMA_1 = """
schema = 1
id = "mine"
name = "My board"

[match]
machine = ["aarch64"]
device_tree_model = ["My Board"]
source = "its boot log"

[[clusters]]
name = "cores"
cores = 2
max_hz = 1_000_000_000
features = "unknown"
source = "its data sheet"

[memory]
sizes_bytes = [536_870_912]
source = "its data sheet"

[[delegates]]
kind = "xnnpack"
needs = []
source = "tried"

[threads]
default = 2
worth_trying = [1, 2]
source = "measured"

[[runtimes]]
package = "ai-edge-litert"
version = "2.3.0"
pythons = ["3.11"]
source = "installed"

[thermal]
throttle_from_c = "unknown"
limit_c = 95
source = "its data sheet"
"""

#: What a user may plug into any machine.
GADGET = """
schema = 2
id = "gadget"
name = "My gadget"
role = "accessory"

[match]
usb_ids = ["0bda:2838"]
source = "lsusb"

[[delegates]]
kind = "edgetpu"
needs = ["edgetpu-library"]
source = "tried"

[threads]
default = 1
worth_trying = [1]
source = "measured"
"""
