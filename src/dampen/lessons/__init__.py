"""The two studies that a learner starts with: weight decay on linear regression, and dropout on a network."""
