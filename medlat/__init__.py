"""medlat: find, measure and show what the latent directions of generative models of medical images mean."""

import os

__version__ = "0.1.0"

# How long a thread of OpenMP spins at a barrier before it sleeps. Where other processes want the cores too, the thread
# that is waited for does not run, and by libgomp's own count the others spin away what time they get
# (`experiments/throughput/neighbours.py`). Read when torch is loaded; the user's own settings stay.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "100000"
