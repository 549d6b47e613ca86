"""Reporting: tables, records, figures and pages of scores."""
