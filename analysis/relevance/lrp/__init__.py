"""Layer-wise relevance propagation, and relevant walks."""
