"""Medical vision-language pre-training, 2D and 3D, in one house."""

__version__ = "0.1.0"
