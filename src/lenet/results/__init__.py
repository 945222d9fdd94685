"""Numbers with their uncertainty: scores, records, figures, the report."""
