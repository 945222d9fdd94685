"""What is compiled for this machine: LeNet-5, Adam's step, the rendering of distortions."""
