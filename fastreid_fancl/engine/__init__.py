"""fast-reid's training engine, extended for unsupervised training, and the command line of one run."""
