"""What a kernel of runtime_c/kernel/<isa> needs at compile time beyond its parameters: which layers it takes, its packed
weights, its scratch. One module per isa; c99 kernels take weights as they are."""
