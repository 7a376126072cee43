"""Files from the network, for weights and data alike: bounded, resumed, checked, kept."""
