"""A picture of writing to digits the way MNIST was made: pure functions of numpy arrays."""
