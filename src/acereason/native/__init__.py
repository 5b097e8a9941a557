"""C++ compiled on first use, and the libraries that make PyTorch's products faster."""
