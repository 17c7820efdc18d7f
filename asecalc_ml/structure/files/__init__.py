"""Files of structures."""
