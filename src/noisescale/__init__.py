"""Find, explain and transfer the hyperparameters of SGD: learning rate, batch size, width, weight decay."""
