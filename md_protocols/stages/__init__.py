"""What protocols are made of: stages that an engine carries a state through, one after the other."""
