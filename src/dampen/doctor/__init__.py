"""Finds what people get wrong with weight decay and dropout, in a live model and its optimizer."""

from dampen.doctor._diagnose import diagnose
from dampen.doctor._report import Finding, Report
from dampen.doctor._table import CHECKS, Check, markdown_table

__all__ = ["CHECKS", "Check", "Finding", "Report", "diagnose", "markdown_table"]
