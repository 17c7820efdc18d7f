"""Results of an explanation: files, figures, pages."""
