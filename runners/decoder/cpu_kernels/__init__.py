"""Kernels for CPUs that PyTorch lacks, in C++. They are compiled when a model is loaded."""
