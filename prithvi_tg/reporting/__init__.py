"""Reporting: pictures and tables that people look at before they believe a number."""
