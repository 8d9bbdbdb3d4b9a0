"""These tests install and start a real SLURM, as root, and only where that is asked for: `make test-cluster`."""

import os

collect_ignore_glob = [] if os.environ.get("MEDLAT_TEST_CLUSTER") else ["test_*.py"]
