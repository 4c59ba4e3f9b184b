"""Search without a supernet of its own: architectures are tried one by one."""
