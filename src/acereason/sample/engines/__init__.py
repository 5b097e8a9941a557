"""The embedded sampler, and the engines that compute its steps: compiled C++, CUDA graphs, PyTorch."""
