"""Areas of classes on the ground, estimated from a stratified random sample of pixels of a map.

The area of the pixels that a map gives to a class, its mapped area, is biased by the errors of the map. An estimate
from a sample of pixels with reference labels is unbiased and has a standard error: Olofsson et al. 2014,
doi 10.1016/j.rse.2014.02.015. Nothing in this package imports PyTorch.
"""
