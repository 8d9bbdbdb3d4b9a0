"""medlat: find, measure and show what the latent directions of generative models of medical images mean."""

__version__ = "0.1.0"
