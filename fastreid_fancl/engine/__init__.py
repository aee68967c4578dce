"""fast-reid's engine with the hooks of unsupervised training."""
