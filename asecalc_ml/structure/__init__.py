"""What every room asks of a structure: charge and spin, minimum image, checks of what a file holds."""
