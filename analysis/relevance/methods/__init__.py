"""The methods of relevance, one in each file."""
